//! The SDK is compiled into plugins and cannot depend on the host, so it has its own table of failures.
//! It must say the same as the host's.

use keepgate_core::{CallError, Failure, PluginRefusal, Waiting};

#[test]
fn the_sdk_has_the_same_failures() {
    let host = Failure::CASES.map(|case| (case.name, case.status, case.message));
    let sdk = keepgate_sdk::Failure::CASES.map(|case| (case.name, case.status, case.message));
    assert_eq!(host, sdk);
}

/// One failure of each case, in the order of the contract.
fn all() -> [Failure; 17] {
    let text = || "why".to_owned();
    let refusal =
        PluginRefusal { status: 500, code: String::new(), message: text(), retry_after: None };
    [
        Failure::NotFound,
        Failure::AlreadyExists,
        Failure::PreconditionFailed,
        Failure::ChecksumMismatch(Some("ab".to_owned())),
        Failure::Truncated,
        Failure::TooLarge(7),
        Failure::OutOfRange(7),
        Failure::QuotaExceeded(text()),
        Failure::NoSpace,
        Failure::Denied(text()),
        Failure::Invalid(text()),
        Failure::Unsupported(text()),
        Failure::Unavailable(text()),
        Failure::Busy(text()),
        Failure::TimedOut,
        Failure::Internal(text()),
        Failure::Refused(refusal),
    ]
}

#[test]
fn clients_are_told_what_the_table_says() {
    for (failure, case) in all().into_iter().zip(Failure::CASES) {
        assert_eq!((failure.code(), failure.status()), (case.name, case.status));
        let own = failure.to_string() == "why";
        let error = CallError::from(failure);
        let answer = error.answer(Waiting::ForGateway);
        assert_eq!(answer.status, case.status, "{error:?}");
        if let Some(message) = answer.message {
            assert!(own || message.starts_with(case.message), "{error:?}: {message}");
        }
    }
}
