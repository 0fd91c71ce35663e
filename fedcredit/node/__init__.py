"""Real nodes: everything with I/O and clocks.

============  ===================================================================
module        purpose
============  ===================================================================
pki           makes a test federation's certificates
certs         loads and checks certificates, a party's own and its peers'
config        TOML files to frozen dataclasses
section       one table of a TOML file
storage       a party's private directory
tables        a party's data, read through Arrow
frames        what travels on a stream besides message bodies
hub           relays envelopes between parties that dial out
stream        one connected process, as the hub sees it
link          a party's connection to the hub: connects, and connects again
sessions      dispatches frames to the open sessions
sender        what a link sends next
presence      who is connected
connection    one Flight stream to the hub, and what a failure to get one means
channel       one session's reliable, authenticated message stream
handshake     how a session is opened and its keys agreed
driver        runs a role over a channel
party         the long-lived process of a provider
remote        the coordinator's side: a backend over a link
logs          log lines for people or as JSON
============  ===================================================================
"""
