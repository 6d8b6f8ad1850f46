//! What `keepgate --version` says of the build: the commit and the compiler, where they are known.

use std::process::Command;

fn main() {
    let commit = first_line("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let compiler = first_line(&rustc, &["--version"]);
    println!("cargo:rustc-env=KEEPGATE_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
    println!("cargo:rustc-env=KEEPGATE_COMPILER={}", compiler.as_deref().unwrap_or("unknown"));
    // Written at each commit, checkout and pull; a missing file would mean to run every time.
    let moves = "../../.git/logs/HEAD";
    if std::path::Path::new(moves).exists() {
        println!("cargo:rerun-if-changed={moves}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
