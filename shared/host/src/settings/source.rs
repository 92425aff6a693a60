//! Where settings come from, and how they are laid over each other.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::fault::{Fault, Problem};
use super::path::{Path, Step};

/// What every variable of settings begins with.
const PREFIX: &str = "TRANSSHIP_";
/// Names the file of settings.
pub(crate) const CONFIG_VARIABLE: &str = "TRANSSHIP_CONFIG";
/// Variables with the prefix that are no settings: the file's name, and what tests tell each other.
const NOT_SETTINGS: [&str; 2] = [CONFIG_VARIABLE, "TRANSSHIP_RIG"];
/// The largest file of settings, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where settings come from. Later ones win: the file, variables, overrides.
#[derive(Debug, Clone, Default)]
pub struct SettingsSource {
    /// A TOML file. One that is named must be there.
    pub file: Option<PathBuf>,
    /// Variables, by their full names: `TRANSSHIP_BUS__SLOTS` is `bus.slots`, two underscores between the
    /// names of tables. The value is a number, `true`, `false` or an array where one fits, else text.
    pub variables: Vec<(String, String)>,
    /// Values by key, such as `bus.slots`, read like those of variables.
    pub overrides: Vec<(String, String)>,
}

impl SettingsSource {
    /// The file, and the variables of this process that begin with `TRANSSHIP_`.
    pub fn from_env(file: Option<PathBuf>) -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok().filter(|name| name.starts_with(PREFIX))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Self { file, variables: variables.collect(), overrides: Vec::new() }
    }

    pub(super) fn merge(&self) -> Merged {
        let mut merged = Merged::default();
        merged.read_file(self.file.as_ref());
        for (name, value) in &self.variables {
            let Some(key) = name.strip_prefix(PREFIX) else { continue };
            if NOT_SETTINGS.contains(&name.as_str()) || is_service_link(key, value) {
                continue;
            }
            merged.lay_over(name, key.to_lowercase().split("__"), value);
        }
        for (key, value) in &self.overrides {
            merged.lay_over(&format!("override {key}"), key.split('.'), value);
        }
        merged
    }
}

/// Kubernetes gives each process variables for each service of its namespace, and a service may be called
/// `transship-exporter`: `TRANSSHIP_EXPORTER_PORT=tcp://…`, `TRANSSHIP_EXPORTER_SERVICE_HOST`, and so on.
fn is_service_link(key: &str, value: &str) -> bool {
    let protocol = |text: &str| text.starts_with("tcp://") || text.starts_with("udp://");
    key.ends_with("_SERVICE_HOST")
        || key.contains("_SERVICE_PORT")
        || key.ends_with("_PORT") && protocol(value)
        || key.contains("_PORT_") && (key.contains("_TCP") || key.contains("_UDP"))
}

/// All sources in one tree, and where each value came from.
#[derive(Default)]
pub(super) struct Merged {
    pub(super) table: Table,
    /// Values of variables that were read as something else than text, as text.
    pub(super) texts: BTreeMap<Path, String>,
    places: BTreeMap<Path, String>,
    file: Option<String>,
    pub(super) faults: Vec<Fault>,
    /// Whether the file could not be read, so that it makes no sense to look further.
    pub(super) broken: bool,
}

impl Merged {
    /// A fault, with the place of the value or of what is around it.
    pub(super) fn fault(&self, path: &Path, problem: Problem) -> Fault {
        let place = path.ancestors().find_map(|path| self.places.get(&path)).cloned();
        let (place, problem) = match problem {
            Problem::Wrong(problem) => (place, problem),
            Problem::Unknown => (place, "there is no such setting".to_owned()),
            Problem::Missing => (None, format!("missing{}", self.how_to_set(path))),
        };
        Fault { place, key: path.to_string(), problem }
    }

    fn how_to_set(&self, path: &Path) -> String {
        let file = self.file.as_ref().map(|file| format!("in {file}"));
        let variable = path
            .keys()
            .map(|keys| format!("as {PREFIX}{}", keys.join("__").replace('-', "_").to_uppercase()));
        let ways: Vec<_> = file.into_iter().chain(variable).collect();
        if ways.is_empty() { String::new() } else { format!("; set it {}", ways.join(" or ")) }
    }

    fn read_file(&mut self, file: Option<&PathBuf>) {
        let Some(path) = file else { return };
        let name = path.display().to_string();
        self.file = Some(name.clone());
        let mut text = String::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
        match read {
            Err(error) => self.break_with(Some(name), &format!("cannot be read: {error}")),
            Ok(size) if size as u64 > MAX_FILE_BYTES => {
                self.break_with(Some(name), &format!("has more than {MAX_FILE_BYTES} bytes"));
            }
            Ok(_) => self.parse(&name, &text),
        }
    }

    fn break_with(&mut self, place: Option<String>, problem: &str) {
        self.broken = true;
        self.faults.push(Fault { place, key: String::new(), problem: problem.to_owned() });
    }

    fn parse(&mut self, name: &str, text: &str) {
        let at = |offset: usize| format!("{name}:{}", 1 + text[..offset].matches('\n').count());
        let (tree, mut errors) = DeTable::parse_recoverable(text);
        errors.sort_by_key(|error| error.span().map(|span| span.start));
        for error in &errors {
            // The message alone: the whole error shows the line, and with it perhaps a secret.
            self.break_with(error.span().map(|span| at(span.start)), error.message());
        }
        match toml::from_str(text) {
            Ok(table) => self.table = table,
            Err(error) if errors.is_empty() => {
                self.break_with(error.span().map(|span| at(span.start)), error.message());
            }
            Err(_) => {}
        }
        self.remember_places(&Path::default(), tree.get_ref(), &at);
    }

    fn remember_places(&mut self, path: &Path, table: &DeTable<'_>, at: &impl Fn(usize) -> String) {
        for (key, value) in table {
            let path = path.child(key.get_ref());
            self.places.insert(path.clone(), at(key.span().start));
            self.remember_value(&path, value, at);
        }
    }

    fn remember_value(&mut self, path: &Path, value: &Spanned<DeValue<'_>>, at: &impl Fn(usize) -> String) {
        match value.get_ref() {
            DeValue::Table(table) => self.remember_places(path, table, at),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = path.clone().with(Step::Index(index));
                    self.places.insert(path.clone(), at(item.span().start));
                    self.remember_value(&path, item, at);
                }
            }
            _ => {}
        }
    }

    /// Puts one value over what is there. `names` are the steps from the root.
    fn lay_over<'n>(&mut self, place: &str, names: impl Iterator<Item = &'n str>, text: &str) {
        let names: Vec<_> = names.collect();
        if names.iter().any(|name| name.is_empty()) {
            let problem = format!("not the name of a setting; {PREFIX}BUS__SLOTS is bus.slots");
            self.faults.push(Fault { place: Some(place.to_owned()), key: String::new(), problem });
            return;
        }
        let path = Path::of_keys(self.spelled(&names));
        for outer in path.ancestors() {
            self.texts.remove(&outer);
        }
        let value = read_as_value(text);
        if value.is_some() {
            self.texts.insert(path.clone(), text.to_owned());
        }
        path.set(&mut self.table, value.unwrap_or_else(|| Value::String(text.to_owned())));
        self.places.insert(path, place.to_owned());
    }

    /// The names as the file spells them: a variable can say neither `-` nor capital letters.
    fn spelled(&self, names: &[&str]) -> Vec<String> {
        let plain = |name: &str| name.to_lowercase().replace('-', "_");
        let mut at = Some(&self.table);
        let mut spelled = Vec::new();
        for name in names {
            let same = at.and_then(|table| table.keys().find(|key| plain(key) == plain(name)));
            let name = same.cloned().unwrap_or_else(|| (*name).to_owned());
            at = at.and_then(|table| table.get(&name)).and_then(Value::as_table);
            spelled.push(name);
        }
        spelled
    }
}

/// What `text` is, where it is not text: a number, a boolean, an array or an inline table.
fn read_as_value(text: &str) -> Option<Value> {
    let mut table: Table = toml::from_str(&format!("value = {text}")).ok()?;
    let value = table.remove("value").filter(|_| table.is_empty())?;
    (!matches!(value, Value::String(_) | Value::Datetime(_))).then_some(value)
}
