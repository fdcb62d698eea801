//! What a pipeline file says: enough of GitLab's reading of it to be honest about common mistakes.
//!
//! `workflow: rules` are read as far as each is `if: $CI_PIPELINE_SOURCE == "…"`, with or without `when`.
//! Not read: `rules` of jobs beyond `when: never`, `needs`, `parallel`, `include` of anything, nested `extends`.

use serde_json::{Map, Value};

/// A job as the file describes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) stage: String,
    pub(crate) stage_index: usize,
    pub(crate) tags: Vec<String>,
    pub(crate) image: Option<String>,
    pub(crate) script: Vec<String>,
    pub(crate) after_script: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) allow_failure: bool,
    pub(crate) when: String,
}

const GLOBALS: &[&str] = &[
    "default",
    "include",
    "stages",
    "variables",
    "workflow",
    "image",
    "services",
    "before_script",
    "after_script",
    "cache",
    "types",
    "spec",
];

const KEYS: &[&str] = &[
    "after_script",
    "allow_failure",
    "artifacts",
    "before_script",
    "cache",
    "coverage",
    "dast_configuration",
    "dependencies",
    "environment",
    "except",
    "extends",
    "hooks",
    "id_tokens",
    "identity",
    "image",
    "inherit",
    "interruptible",
    "manual_confirmation",
    "needs",
    "only",
    "pages",
    "parallel",
    "release",
    "resource_group",
    "retry",
    "rules",
    "run",
    "script",
    "secrets",
    "services",
    "stage",
    "start_in",
    "tags",
    "timeout",
    "trigger",
    "variables",
    "when",
];

const WHENS: &[&str] = &["on_success", "on_failure", "always", "manual", "delayed", "never"];

/// The lines of a script, which may be nested lists of text.
fn lines(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(line) => Some(vec![line.clone()]),
        Value::Array(items) => {
            let parts: Option<Vec<Vec<String>>> = items.iter().map(lines).collect();
            Some(parts?.concat())
        }
        _ => None,
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

fn variables(value: &Value) -> Vec<(String, String)> {
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.clone(), shown(value.get("value").unwrap_or(value)))).collect()
}

/// The top of the file in its own order: order decides between jobs of a stage.
fn read(text: &str) -> Result<Vec<(String, Value)>, String> {
    let invalid = |why: String| format!("Invalid configuration format: {why}");
    let mut document: serde_yaml::Value =
        serde_yaml::from_str(text).map_err(|error| invalid(error.to_string()))?;
    document.apply_merge().map_err(|error| invalid(error.to_string()))?;
    let serde_yaml::Value::Mapping(mapping) = document else {
        return Err("Invalid configuration format".to_owned());
    };
    let mut entries = Vec::new();
    for (key, value) in mapping {
        let key = match key {
            serde_yaml::Value::String(key) => key,
            other => serde_json::to_string(&other).unwrap_or_default(),
        };
        let value = serde_json::to_value(value).map_err(|error| invalid(error.to_string()))?;
        entries.push((key, value));
    }
    Ok(entries)
}

/// What stands at the top of the file besides jobs.
struct Globals {
    top: Map<String, Value>,
    defaults: Map<String, Value>,
    stages: Vec<String>,
}

impl Globals {
    fn of(entries: &[(String, Value)]) -> Self {
        let top: Map<String, Value> =
            entries.iter().filter(|(key, _)| GLOBALS.contains(&key.as_str())).cloned().collect();
        let defaults = top.get("default").and_then(Value::as_object).cloned().unwrap_or_default();
        let stages = top.get("stages").and_then(texts);
        let mut stages = stages.unwrap_or_else(|| ["build", "test", "deploy"].map(str::to_owned).to_vec());
        stages.insert(0, ".pre".to_owned());
        stages.push(".post".to_owned());
        Self { top, defaults, stages }
    }

    /// A job's own value, or that for all jobs.
    fn value<'a>(&'a self, job: &'a Map<String, Value>, key: &str) -> &'a Value {
        let found = job.get(key).or_else(|| self.defaults.get(key)).or_else(|| self.top.get(key));
        found.unwrap_or(&Value::Null)
    }
}

fn plan(globals: &Globals, name: &str, job: &Map<String, Value>, errors: &mut Vec<String>) -> Plan {
    let mut complain = |what: String| errors.push(format!("jobs:{name}{what}"));
    let unknown: Vec<&str> = job.keys().map(String::as_str).filter(|key| !KEYS.contains(key)).collect();
    if !unknown.is_empty() {
        complain(format!(" config contains unknown keys: {}", unknown.join(", ")));
    }
    if !["script", "run", "trigger"].iter().any(|key| job.contains_key(*key)) {
        complain(" config should implement the script:, run:, or trigger: keyword".to_owned());
    }
    let mut script = Vec::new();
    for key in ["before_script", "script"] {
        let value = globals.value(job, key);
        match lines(value) {
            Some(more) => script.extend(more),
            None if value.is_null() && !job.contains_key(key) => {}
            None => complain(format!(
                ":{key} config should be a string or a nested array of strings up to 10 levels deep"
            )),
        }
    }
    let tags = globals.value(job, "tags");
    let tags = if tags.is_null() { Some(Vec::new()) } else { texts(tags) };
    if tags.is_none() {
        complain(":tags config should be an array of strings".to_owned());
    }
    let image = match globals.value(job, "image") {
        Value::Null => None,
        Value::String(image) => Some(image.clone()),
        Value::Object(image) if image.get("name").is_some_and(Value::is_string) => {
            image["name"].as_str().map(str::to_owned)
        }
        _ => {
            complain(":image config should be a hash or a string".to_owned());
            None
        }
    };
    let when = job.get("when").and_then(Value::as_str).unwrap_or("on_success").to_owned();
    if !WHENS.contains(&when.as_str()) {
        complain(" when should be one of: on_success, on_failure, always, manual, delayed".to_owned());
    }
    let stage = job.get("stage").and_then(Value::as_str).unwrap_or("test").to_owned();
    let stage_index = globals.stages.iter().position(|known| *known == stage);
    if stage_index.is_none() {
        let known = globals.stages.join(", ");
        errors.push(format!("{name} job: chosen stage {stage} does not exist; available stages are {known}"));
    }
    let mut all = variables(globals.top.get("variables").unwrap_or(&Value::Null));
    all.extend(variables(job.get("variables").unwrap_or(&Value::Null)));
    Plan {
        name: name.to_owned(),
        stage,
        stage_index: stage_index.unwrap_or_default(),
        tags: tags.unwrap_or_default(),
        image,
        script,
        after_script: lines(globals.value(job, "after_script")).unwrap_or_default(),
        variables: all,
        allow_failure: job.get("allow_failure").and_then(Value::as_bool).unwrap_or(when == "manual"),
        when,
    }
}

fn is_never(plan: &Plan, job: &Map<String, Value>) -> bool {
    let rules = job.get("rules").and_then(Value::as_array);
    let all_never = |rules: &Vec<Value>| rules.iter().all(|rule| rule["when"] == "never");
    plan.when == "never" || rules.is_some_and(all_never)
}

/// Whether the file's `workflow: rules` take a pipeline of this source: the first that applies decides.
pub(crate) fn takes(text: &str, source: &str) -> bool {
    let entries = read(text).unwrap_or_default();
    let workflow = entries.iter().find(|(key, _)| key == "workflow").map(|(_, value)| value);
    let Some(rules) = workflow.and_then(|workflow| workflow["rules"].as_array()) else { return true };
    let applies = |rule: &&Value| {
        rule["if"]
            .as_str()
            .is_none_or(|condition| condition.trim() == format!("$CI_PIPELINE_SOURCE == \"{source}\""))
    };
    rules.iter().find(applies).is_some_and(|rule| rule["when"] != "never")
}

/// The jobs that a pipeline file asks for, or what is wrong with it.
pub(crate) fn configure(text: &str) -> Result<Vec<Plan>, Vec<String>> {
    let entries = read(text).map_err(|error| vec![error])?;
    let globals = Globals::of(&entries);
    let mut errors = Vec::new();
    if globals.top.contains_key("include") {
        errors.push("Included files are not at hand here".to_owned());
    }
    if globals.top.get("stages").is_some_and(|stages| texts(stages).is_none()) {
        errors.push("stages config should be an array of strings".to_owned());
    }
    let mut plans = Vec::new();
    let mut visible = 0;
    for (name, value) in &entries {
        if GLOBALS.contains(&name.as_str()) || name.starts_with('.') {
            continue;
        }
        visible += 1;
        let Some(job) = value.as_object() else {
            errors.push(format!("jobs {name} config should be a hash"));
            continue;
        };
        let mut whole = Map::new();
        if let Some(template) = job.get("extends").and_then(Value::as_str) {
            match entries.iter().find(|(name, _)| name == template).and_then(|(_, base)| base.as_object()) {
                Some(base) => whole.extend(base.clone()),
                None => errors.push(format!("{name}: unknown keys in `extends` ({template})")),
            }
        }
        whole.extend(job.clone());
        let plan = plan(&globals, name, &whole, &mut errors);
        if !is_never(&plan, &whole) {
            plans.push(plan);
        }
    }
    if visible == 0 {
        errors.push("jobs config should contain at least one visible job".to_owned());
    }
    if errors.is_empty() { Ok(plans) } else { Err(errors) }
}
