//! A payment that somebody makes: what the control API and the APIs of the payment stand-ins have in common.

use serde::{Deserialize, Serialize};

/// Whose payment it is when nobody is named: a user of the sample application.
const HANDLE: &str = "pilot00001";
/// So much is paid when nothing is said.
const AMOUNT: &str = "9.00";

/// Who takes a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentProvider {
    /// PayPal.
    Paypal,
    /// PayMongo.
    Paymongo,
}

/// A payment to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Payment {
    /// Who pays: the handle of a profile, `pilot00001` when left out.
    pub handle: Option<String>,
    /// Units and hundredths, `9.00` when left out.
    pub amount: Option<String>,
    /// ISO code; the provider's home currency when left out.
    pub currency: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

impl Payment {
    pub(crate) fn handle(&self) -> &str {
        self.handle.as_deref().unwrap_or(HANDLE)
    }

    pub(crate) fn value(&self) -> &str {
        self.amount.as_deref().unwrap_or(AMOUNT)
    }

    pub(crate) fn currency<'a>(&'a self, home: &'a str) -> &'a str {
        self.currency.as_deref().unwrap_or(home)
    }

    /// The amount in hundredths; none when it is no amount.
    pub(crate) fn cents(&self) -> Option<i64> {
        cents(self.value())
    }
}

/// `9.00` in hundredths.
pub(crate) fn cents(text: &str) -> Option<i64> {
    let (units, rest) = text.split_once('.').unwrap_or((text, "00"));
    let digits =
        |text: &str| !text.is_empty() && text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(units) || !digits(rest) || rest.len() != 2 {
        return None;
    }
    Some(units.parse::<i64>().ok()? * 100 + rest.parse::<i64>().ok()?)
}

/// What a payment caused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// The event's id.
    pub event: String,
    /// The payment's id.
    pub payment: String,
    /// Whether the application took the event.
    pub delivered: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_units_and_hundredths() {
        assert_eq!((cents("9.00"), cents("12"), cents("0.05")), (Some(900), Some(1200), Some(5)));
        for bad in ["", "9.5", "-1.00", "1e3", "9.000", "٣.00"] {
            assert_eq!(cents(bad), None, "{bad}");
        }
    }
}
