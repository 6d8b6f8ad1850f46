//! Compares a job with what a case expects of it.

use keepgate_jobs::Job;

use super::response::At;
use super::{Known, bytes};
use crate::case::{Expect, JobRule, Short};
use crate::mismatch::{Change, Mismatch};

/// How a job that a step ran differs from the step's expectations.
pub(crate) fn ran(
    job: &Job,
    at: &At<'_>,
    expect: Option<&Expect>,
    known: Known<'_>,
) -> Result<Option<Mismatch>, String> {
    let Some(rule) = expect.and_then(|expect| expect.job.as_ref()) else {
        let state = job.state.as_str();
        let text = format!("the step has no expectation; the job {state}: {}", job.message);
        let change = Change::set(at.expect("job").key("state"), state.into());
        return Ok(Some(at.mismatch("job", text).with(change)));
    };
    Ok(differs(job, rule, known)?.map(|different| at.mismatch("job", different)))
}

/// Compares the message of a refused job with the step's expectations.
pub(crate) fn refused(
    why: &str,
    at: &At<'_>,
    expect: Option<&Expect>,
    known: Known<'_>,
) -> Result<Option<Mismatch>, String> {
    let rule = expect.and_then(|expect| expect.job.as_ref());
    let is_expected = match rule.filter(|rule| rule.state.as_deref() == Some("refused")) {
        Some(JobRule { message: Some(pattern), .. }) => pattern.regex(known.values)?.is_match(why),
        Some(_) => true,
        None => false,
    };
    Ok((!is_expected).then(|| at.mismatch("job", format!("the job was refused: {why}"))))
}

/// How a job differs from a rule.
pub(crate) fn differs(
    job: &Job,
    rule: &JobRule,
    known: Known<'_>,
) -> Result<Option<String>, String> {
    let state = job.state.as_str();
    for (what, expected, found) in [
        ("kind", &rule.kind, job.kind.as_str()),
        ("key", &rule.key, &job.key),
        ("state", &rule.state, state),
        ("origin", &rule.origin, &job.origin),
    ] {
        if let Some(expected) = expected {
            let expected = known.values.fill(expected)?;
            if expected != found {
                let why = &job.message;
                return Ok(Some(format!("expected {what} {expected:?}, got {found:?} ({why})")));
            }
        }
    }
    let user = job.user.as_ref().map_or("", |user| &user.name);
    if let Some(expected) = rule.user.as_ref().filter(|expected| *expected != user) {
        return Ok(Some(format!("expected user {expected:?}, got {user:?}")));
    }
    if let Some(attempts) = rule.attempts.filter(|attempts| *attempts != job.attempts) {
        return Ok(Some(format!("expected at most {attempts} attempts, got {}", job.attempts)));
    }
    if let Some(pattern) = &rule.message
        && !pattern.regex(known.values)?.is_match(&job.message)
    {
        return Ok(Some(format!("nothing matches `{pattern}` in {:?}", job.message)));
    }
    if let Some(attempt) = rule.attempt.filter(|attempt| *attempt != job.attempt) {
        return Ok(Some(format!("expected attempt {attempt}, got {}", job.attempt)));
    }
    match &rule.output {
        Some(Short(rule)) => bytes(&job.output, rule, known),
        None => Ok(None),
    }
}
