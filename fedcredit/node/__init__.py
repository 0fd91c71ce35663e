"""Real nodes: everything with I/O and clocks.

============  ===================================================================
module        purpose
============  ===================================================================
pki           makes a test federation's certificates
certs         loads and checks certificates, a party's own and its peers'
config        TOML files to frozen dataclasses
storage       a party's private directory
tables        a party's data, read through Arrow
frames        what travels on a stream besides message bodies
hub           relays envelopes between parties that dial out
link          a party's connection to the hub: reconnects, resends, acknowledges
connection    one Flight stream to the hub, and what its refusals mean
channel       one session's reliable, authenticated message stream
handshake     how a session is opened and its keys agreed
driver        runs a role over a channel
party         the long-lived process of a provider
remote        the coordinator's side: a backend over a link
logs          log lines for people or as JSON
============  ===================================================================
"""
