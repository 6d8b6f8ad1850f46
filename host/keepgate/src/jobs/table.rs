//! Jobs and schedules as tables for people. Programs use the JSON output.

use std::fmt::Write as _;

use serde_json::Value;

/// One line per job, newest first.
pub(super) fn jobs(jobs: &Value) -> String {
    let mut rows = vec![
        ["ID", "MOUNT", "KIND", "KEY", "STATE", "STARTED BY", "CREATED", "MESSAGE"]
            .map(str::to_owned),
    ];
    for job in jobs.as_array().into_iter().flatten() {
        rows.push([
            text(job, "id"),
            text(job, "mount"),
            text(job, "kind"),
            text(job, "key"),
            text(job, "state"),
            text(job, "origin"),
            moment(job, "created"),
            message(job),
        ]);
    }
    lines(&rows)
}

/// One line per schedule.
pub(super) fn schedules(schedules: &Value) -> String {
    let head = ["NAME", "MOUNT", "KIND", "WHEN", "NEXT RUN", "LAST RUN", "LAST SUCCESS", "LAST"];
    let mut rows = vec![head.map(str::to_owned)];
    for schedule in schedules.as_array().into_iter().flatten() {
        rows.push([
            text(schedule, "name"),
            text(schedule, "mount"),
            text(schedule, "kind"),
            text(schedule, "when"),
            moment(schedule, "next"),
            moment(schedule, "last_run"),
            moment(schedule, "last_success"),
            text(schedule, "last_outcome"),
        ]);
    }
    lines(&rows)
}

/// Everything about one job, one line per property.
pub(super) fn job(job: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(out, "{name:<13}{value}");
        }
    };
    line("id", text(job, "id"));
    line("mount", text(job, "mount"));
    line("kind", text(job, "kind"));
    line("key", text(job, "key"));
    line("state", text(job, "state"));
    line("started by", text(job, "origin"));
    line("schedule", text(job, "schedule"));
    line("works for", user(job));
    line("after", text(job, "after"));
    line("attempt", format!("{} of {}", text(job, "attempt"), text(job, "attempts")));
    line("progress", progress(job));
    line("created", moment(job, "created"));
    line("began", moment(job, "started"));
    line("ended", moment(job, "ended"));
    let is_first = job.get("attempt").and_then(Value::as_u64) == Some(0);
    line(if is_first { "not before" } else { "next attempt" }, moment(job, "next_attempt"));
    line("then", text(job, "finally"));
    line("message", text(job, "message"));
    line("input", text(job, "input"));
    line("output", text(job, "output"));
    out
}

fn progress(job: &Value) -> String {
    let progress = job.get("progress").unwrap_or(&Value::Null);
    let number = |name: &str| progress.get(name).and_then(Value::as_u64);
    let (done, phase) = (number("done").unwrap_or(0), text(progress, "phase"));
    let numbers = match number("total") {
        Some(total) => format!("{done} of {total}"),
        None if done == 0 => String::new(),
        None => done.to_string(),
    };
    [phase, numbers].iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(", ")
}

/// The progress of a running job, what a queued one waits for, and otherwise its message.
fn message(job: &Value) -> String {
    if text(job, "state") == "running" {
        return progress(job);
    }
    let next = moment(job, "next_attempt");
    let waits = if next.is_empty() { next } else { format!("not before {next}") };
    let parts = [waits, text(job, "message")];
    parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(": ")
}

/// The user whose permissions it has. Files of earlier versions contain only the name.
fn user(job: &Value) -> String {
    match job.get("user") {
        Some(user @ Value::Object(_)) => {
            format!("{} ({})", text(user, "name"), text(user, "method"))
        }
        _ => text(job, "user"),
    }
}

fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Rounded down to seconds, which are easier to read.
fn moment(value: &Value, name: &str) -> String {
    let text = text(value, name);
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

/// Pads columns to their widest cell, except the last one.
fn lines<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let two = json!([
            {"id": "1", "mount": "/", "kind": "backup", "key": "main", "state": "failed",
             "origin": "schedule hourly", "created": "2026-11-21T08:00:00.123Z", "message": "no"},
            {"id": "22", "mount": "/data", "kind": "backup", "key": "", "state": "running",
             "origin": "operator", "created": "2026-11-21T09:00:00Z",
             "progress": {"done": 5, "total": 10, "phase": "storing"}},
            {"id": "3", "mount": "/", "kind": "backup", "key": "main", "state": "queued",
             "origin": "user ann", "created": "2026-11-21T09:00:00Z", "message": "no endpoint",
             "next_attempt": "2026-11-21T09:01:00Z"},
            {"id": "4", "mount": "/", "kind": "backup", "key": "main", "state": "queued",
             "origin": "user ann", "created": "2026-11-21T09:00:00Z", "message": "",
             "next_attempt": "2026-11-22T00:00:00Z"},
        ]);
        assert_eq!(
            jobs(&two),
            "ID  MOUNT  KIND    KEY   STATE    STARTED BY       CREATED               MESSAGE\n\
             1   /      backup  main  failed   schedule hourly  2026-11-21T08:00:00Z  no\n\
             22  /data  backup        running  operator         2026-11-21T09:00:00Z  storing, 5 of 10\n\
             3   /      backup  main  queued   user ann         2026-11-21T09:00:00Z  not before 2026-11-21T09:01:00Z: no endpoint\n\
             4   /      backup  main  queued   user ann         2026-11-21T09:00:00Z  not before 2026-11-22T00:00:00Z\n"
        );
    }

    #[test]
    fn unknown_properties_have_no_line() {
        let said = job(&json!({"id": "1", "attempt": 1, "attempts": 3, "ended": null}));
        assert_eq!(said, "id           1\nattempt      1 of 3\n");
    }

    #[test]
    fn a_job_shows_its_user_what_it_waits_for_and_what_follows() {
        let said = job(&json!({
            "id": "2", "user": {"name": "ann", "method": "htpasswd"}, "after": "1",
            "attempt": 0, "attempts": 5, "next_attempt": "2026-11-21T09:01:00Z", "finally": "tidy",
        }));
        assert_eq!(
            said,
            "id           2\nworks for    ann (htpasswd)\nafter        1\nattempt      0 of 5\n\
             not before   2026-11-21T09:01:00Z\nthen         tidy\n"
        );
        let old = job(&json!({"user": "ann", "attempt": 1, "attempts": 1}));
        assert_eq!(old, "works for    ann\nattempt      1 of 1\n");
    }
}
