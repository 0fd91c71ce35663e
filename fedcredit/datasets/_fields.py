"""The data dictionary and the code lists of the synthetic SME population."""

from __future__ import annotations

from typing import Final, NamedTuple

from fedcredit.datasets._vertical import Field

__all__ = ["CATEGORICAL", "DICTIONARY", "INDUSTRIES", "LEGAL_FORMS", "REGIONS", "Industry"]

LEGAL_FORMS: Final = ("company", "individual_business", "cooperative")
SIZES: Final = ("micro", "small", "medium")
TAXPAYER_STATUS: Final = ("general", "small_scale", "exempt")
TAXPAYER_RATINGS: Final = ("A", "B", "M", "C", "D")
CONTRIBUTION_STATUS: Final = ("normal", "deferred", "no_staff")


class Industry(NamedTuple):
    """An industry (section of GB/T 4754) and its typical figures."""

    name: str
    share: float
    log_revenue: float
    """Mean of ln(annual revenue / 10,000 CNY)."""
    tax_burden: float
    """Taxes paid over revenue."""
    log_staff: float
    """Mean of ln(staff) at that revenue."""
    risk: float
    """Addition to the log-odds of default."""


INDUSTRIES: Final = (
    Industry("manufacturing", 0.21, 6.3, 0.045, 3.0, 0.05),
    Industry("wholesale_retail", 0.31, 6.0, 0.018, 1.9, 0.00),
    Industry("construction", 0.09, 6.4, 0.035, 2.8, 0.30),
    Industry("transport", 0.07, 5.7, 0.028, 2.3, 0.10),
    Industry("catering", 0.08, 4.7, 0.022, 2.2, 0.35),
    Industry("software", 0.08, 5.5, 0.040, 2.6, -0.20),
    Industry("business_services", 0.12, 5.2, 0.035, 2.2, -0.05),
    Industry("agriculture", 0.04, 4.9, 0.006, 2.0, 0.15),
)

REGIONS: Final = (  # code (GB/T 2260), province, share
    (110105, "Beijing", 0.05),
    (110108, "Beijing", 0.05),
    (310112, "Shanghai", 0.05),
    (310115, "Shanghai", 0.06),
    (320106, "Jiangsu", 0.06),
    (320505, "Jiangsu", 0.07),
    (330106, "Zhejiang", 0.08),
    (330203, "Zhejiang", 0.06),
    (340104, "Anhui", 0.04),
    (350203, "Fujian", 0.05),
    (370102, "Shandong", 0.05),
    (370202, "Shandong", 0.05),
    (410105, "Henan", 0.05),
    (420106, "Hubei", 0.05),
    (430102, "Hunan", 0.04),
    (440106, "Guangdong", 0.06),
    (440304, "Guangdong", 0.07),
    (500103, "Chongqing", 0.03),
    (510104, "Sichuan", 0.05),
    (610113, "Shaanxi", 0.02),
)

CATEGORICAL: Final[dict[str, list[str]]] = {
    "platform": ["region", "industry", "legal_form", "size"],
    "tax": ["taxpayer_status", "taxpayer_rating"],
    "social_security": ["contribution_status"],
}

_KEY = Field("code", "Unified social credit code, as the party's system holds it: not normalised.")
_STAFF = "missing without insured staff"
_INVOICES = "missing if no invoice was issued"

DICTIONARY: Final[dict[str, Field]] = {
    "platform.uscc": _KEY,
    "platform.region": Field("category", "Province of registration."),
    "platform.industry": Field("category", "Industry (section of GB/T 4754)."),
    "platform.legal_form": Field("category", "Company, individual business or cooperative."),
    "platform.size": Field("category", "Size as declared to the platform."),
    "platform.registration_years": Field("years", "Time since registration."),
    "platform.registered_capital": Field("10,000 CNY", "Registered capital."),
    "platform.penalties_36m": Field("count", "Administrative penalties published in 36 months."),
    "platform.judgments_36m": Field("count", "Court judgments as the debtor in 36 months."),
    "platform.months_on_platform": Field("months", "Time since the first application."),
    "platform.enquiries_6m": Field("count", "Enquiries by lenders in 6 months."),
    "platform.open_loans": Field("count", "Loans now open."),
    "platform.credit_utilisation": Field("ratio", "Drawn over granted; missing without a loan."),
    "platform.max_days_overdue_12m": Field("days", "Longest delay; missing without a loan."),
    "platform.loan_amount": Field("CNY", "Amount of the loan applied for."),
    "platform.default": Field("0/1", "90 days overdue within 12 months of the grant."),
    "tax.uscc": _KEY,
    "tax.taxpayer_status": Field("category", "VAT status: general, small-scale or exempt."),
    "tax.taxpayer_rating": Field(
        "category", "Tax credit rating A, B, M (new), C, D; missing if the taxpayer is not rated."
    ),
    "tax.annual_revenue": Field("CNY", "Declared revenue, last 12 months."),
    "tax.revenue_growth": Field("ratio", "Revenue against the year before; missing in year one."),
    "tax.annual_paid": Field("CNY", "All taxes paid, last 12 months; missing if exempt."),
    "tax.invoice_count": Field("count", "VAT invoices issued, last 12 months."),
    "tax.invoice_volatility": Field("ratio", f"Monthly std / mean of invoiced sums; {_INVOICES}."),
    "tax.top5_buyer_share": Field("ratio", f"Share of the five largest buyers; {_INVOICES}."),
    "tax.void_invoice_share": Field("ratio", f"Voided over issued invoices; {_INVOICES}."),
    "tax.zero_declaration_months": Field("months", "Months declared without revenue, of 12."),
    "tax.late_filings_12m": Field("count", "Declarations filed late in 12 months."),
    "tax.arrears": Field("CNY", "Taxes now overdue; missing if exempt."),
    "social_security.uscc": _KEY,
    "social_security.contribution_status": Field(
        "category", "Pays normally, was granted deferral, or has no insured staff."
    ),
    "social_security.insured_staff": Field("count", "Insured employees."),
    "social_security.staff_change_12m": Field(
        "ratio", f"Change of staff; {_STAFF} or in year one."
    ),
    "social_security.average_base": Field("CNY/month", f"Average contribution base; {_STAFF}."),
    "social_security.annual_contributions": Field("CNY", "Contributions paid, last 12 months."),
    "social_security.arrears_months": Field(
        "months", "Months of contributions overdue, of 12; missing under deferral or without staff."
    ),
    "social_security.staff_turnover": Field("ratio", f"Leavers in 12 months over staff; {_STAFF}."),
    "social_security.average_tenure": Field("years", f"Average time insured here; {_STAFF}."),
}
