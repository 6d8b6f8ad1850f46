//! `keepgate plugin list`: lists the plugins of the running gateway, using its admin listener.

use anyhow::{Context as _, Result};
use keepgate::GatewayConfig;
use serde_json::Value;

use crate::arguments::List;
use crate::files::size;
use keepgate::output::{self, say};

/// Asks the gateway and prints a table or its JSON.
pub(crate) async fn run(arguments: &List) -> Result<()> {
    let config = GatewayConfig::load(&arguments.config)?;
    let client = config.operator_client("list plugins")?;
    let status = client.get("/status").await.context("this needs a running gateway")?;
    if arguments.json {
        let wanted = ["generation", "contract", "plugins", "mounts", "refused"];
        let members = wanted.map(|name| (name.to_owned(), member(&status, name).clone()));
        let part = Value::Object(members.into_iter().collect());
        say!("{}", serde_json::to_string_pretty(&part)?)?;
    } else {
        output::print(format_args!("{}", table(&status)))?;
    }
    Ok(())
}

/// One line for each mount of each plugin and for each plugin without a mount, then the suspended plugins
/// and the refused files.
fn table(status: &Value) -> String {
    let head =
        ["PLUGIN", "VERSION", "DIGEST", "SIZE", "MOUNT", "STATE", "CALLS", "FAILURES", "TRAPS"];
    let mut rows = vec![head.map(str::to_owned)];
    let mounts = items(status, "mounts");
    for plugin in items(status, "plugins") {
        let name = text(plugin, "name");
        let digest: String = text(plugin, "digest").chars().take(12).collect();
        let about = [
            name.to_owned(),
            text(member(plugin, "description"), "version").to_owned(),
            digest,
            size(member(plugin, "size").as_u64().unwrap_or(0)),
        ];
        let mut own = mounts.iter().filter(|mount| text(mount, "plugin") == name).peekable();
        if own.peek().is_none() {
            rows.push(row(about.clone(), ["-", "not mounted", "0", "0", "0"].map(str::to_owned)));
        }
        rows.extend(own.map(|mount| row(about.clone(), served(plugin, mount))));
    }
    // Mounts whose plugin has no usable file.
    let known = |name: &str| items(status, "plugins").iter().any(|p| text(p, "name") == name);
    for mount in mounts.iter().filter(|mount| !known(text(mount, "plugin"))) {
        let about = [text(mount, "plugin"), "-", "-", "-"].map(str::to_owned);
        rows.push(row(about, served(&Value::Null, mount)));
    }
    let mut out = format!(
        "generation {}, contract {}\n{}",
        member(status, "generation"),
        text(status, "contract"),
        lines(&rows)
    );
    for mount in mounts {
        out.push_str(&suspended(mount));
    }
    for refused in items(status, "refused") {
        let older = member(refused, "older_serves").as_bool().unwrap_or(false);
        let older = if older { " (the previous version still serves)" } else { "" };
        out.push_str(&format!(
            "refused: {}{older}: {}\n",
            text(refused, "what"),
            text(refused, "why")
        ));
    }
    out
}

/// The columns of a mount.
fn served(plugin: &Value, mount: &Value) -> [String; 5] {
    let outcomes = member(member(mount, "calls"), "outcomes");
    let count = |wanted: &dyn Fn(&str) -> bool| -> u64 {
        let all = outcomes.as_object().into_iter().flatten();
        all.filter(|(name, _)| wanted(name)).filter_map(|(_, count)| count.as_u64()).sum()
    };
    let state = match (member(mount, "problem").is_null(), member(mount, "digest")) {
        (true, _) if !member(mount, "aside").is_null() => "suspended",
        (false, _) => "does not serve",
        (true, digest) if digest == member(plugin, "digest") => "serves",
        (true, _) => "previous version serves",
    };
    [
        text(mount, "path").to_owned(),
        state.to_owned(),
        count(&|_| true).to_string(),
        count(&|name| name == "failure").to_string(),
        // Everything that ended an instance: traps, exceeded limits, invalid responses.
        count(&|name| matches!(name, "trap" | "memory" | "cpu" | "time" | "bad-reply")).to_string(),
    ]
}

/// A line if the plugin of a mount is suspended: why, and when it is tried again.
fn suspended(mount: &Value) -> String {
    let aside = member(mount, "aside");
    if aside.is_null() {
        return String::new();
    }
    let again = match member(aside, "seconds").as_u64() {
        None | Some(0) => "with the next request".to_owned(),
        Some(seconds) => format!("in {seconds} s"),
    };
    let pauses = match member(aside, "pauses").as_u64() {
        None | Some(0 | 1) => String::new(),
        Some(pauses) => format!(", after {pauses} pauses"),
    };
    format!(
        "suspended: {} at {}: next try {again}{pauses}, because it keeps crashing: {}\n",
        text(mount, "plugin"),
        text(mount, "path"),
        text(aside, "why")
    )
}

fn row([a, b, c, d]: [String; 4], [e, f, g, h, i]: [String; 5]) -> [String; 9] {
    [a, b, c, d, e, f, g, h, i]
}

fn lines<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    member(value, name).as_str().unwrap_or_default()
}

fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    member(value, name).as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_mount_has_its_state_and_counts() {
        let status = json!({
            "generation": 7, "contract": "0.1.1",
            "plugins": [
                {"name": "a", "digest": "new", "size": 2048, "description": {"version": "1.0"}},
                {"name": "b", "digest": "b", "size": 1, "description": {"version": "2.0"}},
            ],
            "mounts": [
                {"path": "/a", "plugin": "a", "digest": "new", "problem": null,
                 "calls": {"outcomes": {"ok": 5, "failure": 2, "trap": 1, "cpu": 1, "busy": 1}}},
                {"path": "/old", "plugin": "a", "digest": "old", "problem": null,
                 "calls": {"outcomes": {}}},
                {"path": "/gone", "plugin": "c", "digest": null, "problem": "no file"},
                {"path": "/bad", "plugin": "a", "digest": "new", "problem": null,
                 "aside": {"seconds": 40, "pauses": 3, "why": "trapped: unreachable"},
                 "calls": {"outcomes": {"trap": 20, "aside": 5}}},
            ],
            "refused": [{"what": "/p/x.wasm", "why": "half", "older_serves": true}],
        });
        let table = table(&status);
        let line = |word: &str| table.lines().find(|line| line.contains(word)).unwrap().to_owned();
        let words =
            |word: &str| line(word).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(table.starts_with("generation 7, contract 0.1.1\nPLUGIN "), "{table}");
        assert_eq!(words("/a ")[5..], ["/a", "serves", "10", "2", "2"]);
        assert!(line("/old").contains("previous version serves"));
        assert!(line("b  ").contains("not mounted"), "{table}");
        assert!(line("/gone").contains("does not serve"));
        assert!(line("refused:").contains("still serves"));
        assert!(words("/bad ").join(" ").ends_with("/bad suspended 25 0 20"), "{table}");
        let aside = line("suspended: ");
        assert!(aside.starts_with("suspended: a at /bad: next try in 40 s, after 3 pauses,"));
        assert!(aside.ends_with(": trapped: unreachable"), "{aside}");
    }
}
