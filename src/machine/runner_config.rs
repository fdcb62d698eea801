use crate::base::error::{Failure, Id, Kind, Result};
use crate::base::files::Intake;
use crate::deployment::run::Run;
use crate::machine::config_entry;

/// Reads the file of `--runner-config`; an empty table without the setting. Fails with OR0712.
pub async fn read(run: &Run, intake: &Intake) -> Result<toml::Table> {
    let Some(path) = &run.settings.runner_config else { return Ok(toml::Table::new()) };
    let path = &path.value;
    let unusable = |why: &str| {
        Failure::new(Id::RunnerConfig, format!("invalid --runner-config file {}", path.display()))
            .with_kind(Kind::Usage)
            .detail("because", why)
            .hint("give a TOML file with one [[runners]]: --runner-config FILE")
    };
    let bytes = intake.text(path).await?.ok_or_else(|| unusable("it does not exist"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| unusable("it is not UTF-8"))?;
    config_entry::parse(text, run.settings.pod_security.word())
}
