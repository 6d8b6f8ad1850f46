//! Embeds the files of new projects in the program: templates, SDKs and the contract. New files in these
//! folders are included automatically.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The folder of the contract, in the repository and in projects with a copy of the Rust SDK.
const CONTRACT: &str = "wit/0.1.1";

/// The name of the constant for each folder of the repository.
const FOLDERS: [(&str, &str); 8] = [
    ("CONTRACT", CONTRACT),
    ("CASES", "sdk/templates/cases"),
    ("RUST_TEMPLATE", "sdk/templates/rust"),
    ("RUST_SDK", "sdk/src"),
    ("JS_TEMPLATE", "sdk/js/template"),
    ("JS_SDK", "sdk/js/keepgate"),
    ("PYTHON_TEMPLATE", "sdk/python/template"),
    ("PYTHON_SDK", "sdk/python/keepgate"),
];

fn main() -> io::Result<()> {
    // At run time: a program compiled in another clone with the same target folder may be run again in this one.
    let manifest = env::var_os("CARGO_MANIFEST_DIR");
    let manifest = manifest.ok_or_else(|| io::Error::other("cargo sets CARGO_MANIFEST_DIR"))?;
    let repository = Path::new(&manifest).join("../..").canonicalize()?;
    let mut text = format!("const CONTRACT_FOLDER: &str = {CONTRACT:?};\n");
    for (constant, folder) in FOLDERS {
        let folder = repository.join(folder);
        println!("cargo:rerun-if-changed={}", folder.display());
        let mut files = Vec::new();
        collect(&folder, &mut files)?;
        // Makes builds reproducible.
        files.sort();
        text += &format!("const {constant}: &[File] = &[\n");
        for file in files {
            let name = file.strip_prefix(&folder).unwrap_or(&file);
            let (name, file) = (name.display().to_string(), file.display().to_string());
            text += &format!("    ({name:?}, include_str!({file:?})),\n");
        }
        text += "];\n";
    }
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("files.rs"), text)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Files of editors and Python.
        if name.starts_with('.') || name == "__pycache__" {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
