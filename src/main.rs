//! Arguments and real streams in, exit code out.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::BTreeMap;
use std::process::ExitCode;

fn main() -> ExitCode {
    outrigger::close_process();
    outrigger::restore_terminal_on_panic();
    outrigger::install_tls_provider();
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    let code = runtime.block_on(outrigger::run(
        std::env::args_os().collect(),
        &env,
        |options| outrigger::Ui::system(&env, options),
        &mut outrigger::TerminalAsk::new(&env),
    ));
    // A plugin that hangs must not keep us.
    runtime.shutdown_background();
    ExitCode::from(code)
}
