//! The SDK is compiled into plugins and cannot depend on the host, so it has its own table of failures.
//! It must say the same as the host's.

use std::time::Duration;

use keepgate_core::{CallError, Failure, Limit, PluginRefusal, Waiting};

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

fn of_the_host() -> [CallError; 11] {
    let (text, second) = (|| "/srv/secret".to_owned(), Duration::from_secs(1));
    [
        CallError::NotServing(text()),
        CallError::Busy(3),
        CallError::Suspended(2 * second),
        CallError::HostMemory(text()),
        // From here on, only another request, or an operator, can help.
        CallError::Misconfigured(text()),
        CallError::OverLimit(Limit::Memory(3)),
        CallError::OverLimit(Limit::Cpu(second)),
        CallError::OverLimit(Limit::Held(3)),
        CallError::OverLimit(Limit::Time(second)),
        CallError::Trapped(text()),
        CallError::BadReply(text()),
    ]
}

#[test]
fn clients_are_told_to_try_again_only_where_that_can_help() {
    let after: Vec<_> =
        of_the_host().iter().map(|error| error.answer(Waiting::ForGateway).retry_after).collect();
    let none = [None; 7];
    assert_eq!(after, [&[Some(5), Some(1), Some(2), Some(5)], &none[..]].concat());
    for failure in all() {
        let expected = matches!(failure, Failure::Unavailable(_)).then_some(5);
        assert_eq!(CallError::from(failure).answer(Waiting::ForClient).retry_after, expected);
    }
}

/// A surface's own form has a place for a code and a message, which must not be empty, nor tell what is for operators.
#[test]
fn a_code_and_a_message_are_never_missing() {
    let codes: Vec<_> = Failure::CASES.map(|case| case.name).into_iter().collect();
    let failures = all().into_iter().map(CallError::from);
    let empty = [Failure::Denied(String::new()), Failure::Internal("/srv/secret".to_owned())];
    let empty = empty.into_iter().map(CallError::from);
    for error in failures.chain(empty).chain(of_the_host()) {
        for waiting in [Waiting::ForGateway, Waiting::ForClient] {
            let answer = error.answer(waiting);
            assert!(!answer.told.is_empty(), "{error:?}");
            assert!(!answer.told.contains("secret"), "{error:?}: {}", answer.told);
            let known = codes.contains(&answer.code);
            assert!(known || ["misconfigured", "over-limit"].contains(&answer.code), "{error:?}");
            if let Some(message) = answer.message.filter(|message| !message.is_empty()) {
                assert!(message.contains(&*answer.told), "{error:?}");
            }
        }
    }
    let code = |code: &str| {
        let (code, message) = (code.to_owned(), "it is full".to_owned());
        let refusal = PluginRefusal { status: 422, code, message, retry_after: Some(3) };
        let error = CallError::from(Failure::Refused(refusal));
        let answer = error.answer(Waiting::ForGateway);
        assert_eq!((answer.status, answer.retry_after), (422, Some(3)));
        assert_eq!(answer.told, "it is full");
        answer.code.to_owned()
    };
    assert_eq!((&*code("no_room"), &*code("")), ("no_room", "refused"));
}
