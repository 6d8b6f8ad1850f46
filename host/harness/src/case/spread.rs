//! The cases of a file as they run: one with several values or folders counts as several.

use super::{Case, CaseFile, Each, Values};

/// A case with its values.
#[derive(Clone, Debug)]
pub struct Single {
    /// `FILE/CASE`, followed by the names of the value and the folder if there are several.
    pub name: String,
    /// The index of the case in its file.
    pub index: usize,
    /// The folder of its repository, in which placeholders are not yet filled in.
    pub at: String,
    /// Its values, in which placeholders are not yet filled in.
    each: Vec<(String, String)>,
}

impl Single {
    /// The placeholders that the file and the case define.
    pub(crate) fn values(&self, file: &CaseFile) -> Result<Values, String> {
        let mut values = Values::default();
        for (name, super::Short(content)) in file.surface.bodies.iter().chain(&file.bodies) {
            let bytes = content.bytes(file.folder(), &values);
            values.name_body(name, bytes.map_err(|why| format!("body {name:?}: {why}"))?);
        }
        for (name, text) in &self.each {
            values.template(name, text.clone());
        }
        Ok(values)
    }

    /// Whether the file writes this case as one of several. Then `--update` cannot write the results.
    pub(crate) fn is_one_of_several(&self, case: &Case) -> bool {
        !self.each.is_empty() || case.at.len() > 1
    }
}

/// All cases of a file as they run, in order.
pub(crate) fn spread(file: &CaseFile) -> Vec<Single> {
    let mut all = Vec::new();
    for (index, case) in file.cases.iter().enumerate() {
        let name = format!("{}/{}", file.topic, case.name.get_ref());
        for at in &case.at {
            let name = match (case.at.len(), at.as_str()) {
                (1, _) => name.clone(),
                (_, "") => format!("{name}/at-the-top"),
                (_, at) if at.contains('/') => format!("{name}/two-folders"),
                _ => format!("{name}/one-folder"),
            };
            if case.each.is_empty() {
                all.push(Single { name, index, at: at.clone(), each: Vec::new() });
                continue;
            }
            for (label, each) in &case.each {
                let each = match each {
                    Each::Number(number) => vec![("each".to_owned(), number.to_string())],
                    Each::Text(text) => vec![("each".to_owned(), text.clone())],
                    Each::Several(values) => {
                        values.iter().map(|(name, value)| (name.clone(), value.text())).collect()
                    }
                };
                // The value's name comes before the folder's.
                let (head, tail) = name.split_at(file.topic.len() + 1 + case.name.get_ref().len());
                let name = format!("{head}/{label}{tail}");
                all.push(Single { name, index, at: at.clone(), each });
            }
        }
    }
    all
}
