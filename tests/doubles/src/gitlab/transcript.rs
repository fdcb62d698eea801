//! What a runner with the Kubernetes executor writes into a job's log: with colours and section markers.

use serde_json::Value;

/// The runner's own stream, in which it tells what it does.
const EXECUTOR: &str = "00O";
/// What the job's commands print.
const WORK: &str = "01O";

/// A log in the making.
struct Log {
    portions: Vec<String>,
    timestamps: bool,
    second: i64,
    /// The streams whose next line continues their last one.
    cut: Vec<&'static str>,
}

impl Log {
    /// Writes to a stream, as a runner of 19.0 or newer stamps it: a line that holds a carriage return and
    /// no end is written out all the same, and what comes next in that stream continues it
    /// (gitlab-runner 19.4, `common/buildlogger/internal/timestamper`).
    fn write(&mut self, stream: &'static str, text: &str) {
        if !self.timestamps {
            self.portions.push(text.to_owned());
            return;
        }
        let time = jiff::Timestamp::from_second(self.second).unwrap_or_default();
        for line in text.split_inclusive('\n') {
            let flag = if self.cut.contains(&stream) { '+' } else { ' ' };
            self.cut.retain(|cut| *cut != stream);
            let end = if line.ends_with('\n') {
                ""
            } else {
                self.cut.push(stream);
                "\n"
            };
            self.portions.push(format!("{time:.6} {stream}{flag}{line}{end}"));
        }
    }

    fn line(&mut self, stream: &'static str, text: &str) {
        self.write(stream, &format!("{text}\n"));
    }

    fn note(&mut self, text: &str) {
        self.line(EXECUTOR, &format!("\u{1b}[0K{text}\u{1b}[0;m"));
    }

    fn section(&mut self, name: &str, title: &str, inside: impl FnOnce(&mut Self)) {
        self.write(EXECUTOR, &format!("section_start:{}:{name}\r\u{1b}[0K", self.second));
        self.note(&format!("\u{1b}[36;1m{title}\u{1b}[0;m"));
        inside(self);
        self.second += 1;
        self.write(EXECUTOR, &format!("section_end:{}:{name}\r\u{1b}[0K", self.second));
    }
}

/// What a line of a script prints: `echo` is understood, all else is silent.
fn output(command: &str) -> Option<String> {
    let words = command.trim().strip_prefix("echo")?.trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| words.strip_prefix(*quote)?.strip_suffix(*quote));
    Some(unquoted.unwrap_or(words).to_owned())
}

/// What is told of the machine.
pub(crate) struct Machine<'a> {
    pub(crate) version: &'a str,
    pub(crate) name: &'a str,
    pub(crate) system_id: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) timestamps: bool,
    pub(crate) output: &'a str,
}

/// The log of a job, in portions; with an exit code that is not 0 its script fails.
pub(crate) fn write(machine: &Machine<'_>, job: &Value, exit_code: i64) -> Vec<String> {
    let mut log =
        Log { portions: Vec::new(), timestamps: machine.timestamps, second: 1_790_000_000, cut: Vec::new() };
    let pod = format!("runner-double-project-{}-concurrent-0", job["job_info"]["project_id"]);
    let image = job["image"]["name"].as_str().unwrap_or("alpine:latest");
    log.note(&format!("Running with gitlab-runner {} (d79f3e7b)", machine.version));
    log.note(&format!("  on {}, system ID: {}", machine.name, machine.system_id));
    log.section("prepare_executor", "Preparing the \"kubernetes\" executor", |log| {
        log.note(&format!("Using Kubernetes namespace: {}", machine.namespace));
        log.note(&format!("Using Kubernetes executor with image {image} ..."));
        log.note("Using attach strategy to execute scripts...");
    });
    log.section("prepare_script", "Preparing environment", |log| {
        log.line(
            EXECUTOR,
            &format!("Waiting for pod {}/{pod} to be running, status is Pending", machine.namespace),
        );
        log.line(WORK, &format!("Running on {pod} via {}...", machine.name));
        log.line(EXECUTOR, "");
    });
    log.section("get_sources", "Getting source from Git repository", |log| {
        let sha = job["git_info"]["sha"].as_str().unwrap_or_default();
        let reference = job["git_info"]["ref"].as_str().unwrap_or_default();
        log.line(WORK, "\u{1b}[32;1mFetching changes with git depth set to 20...\u{1b}[0;m");
        let short = sha.get(..8).unwrap_or(sha);
        log.line(
            WORK,
            &format!("\u{1b}[32;1mChecking out {short} as detached HEAD (ref is {reference})...\u{1b}[0;m"),
        );
    });
    log.section("step_script", "Executing \"step_script\" stage of the job script", |log| {
        for command in job["steps"][0]["script"].as_array().into_iter().flatten() {
            let command = command.as_str().unwrap_or_default();
            log.line(WORK, &format!("\u{1b}[32;1m$ {command}\u{1b}[0;m"));
            if let Some(printed) = output(command) {
                log.line(WORK, &printed);
            }
        }
        // Progress bars write after each carriage return.
        for part in machine.output.split_inclusive(['\r', '\n']) {
            log.write(WORK, part);
        }
        if !machine.output.is_empty() && !machine.output.ends_with('\n') {
            log.write(WORK, "\n");
        }
    });
    log.section("cleanup_file_variables", "Cleaning up project directory and file based variables", |log| {
        log.line(EXECUTOR, "");
    });
    if exit_code == 0 {
        log.line(EXECUTOR, "\u{1b}[32;1mJob succeeded\u{1b}[0;m");
    } else {
        log.line(
            EXECUTOR,
            &format!(
                "\u{1b}[31;1mERROR: Job failed: command terminated with exit code {exit_code}\u{1b}[0;m"
            ),
        );
    }
    log.portions
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_articles_job_says_hello() {
        let machine = Machine {
            version: "19.4.1",
            name: "vm",
            system_id: "s_1",
            namespace: "jobs",
            timestamps: false,
            output: "",
        };
        let job = json!({"steps": [{"script": ["echo \"hello world!\"", "true"]}]});
        let log = write(&machine, &job, 0).concat();
        assert!(log.contains("\u{1b}[32;1m$ echo \"hello world!\"\u{1b}[0;m\nhello world!\n"), "{log}");
        assert!(log.contains("section_start:1790000003:step_script\r\u{1b}[0K"), "{log}");
        assert!(log.ends_with("Job succeeded\u{1b}[0;m\n"));
        assert!(
            write(&machine, &job, 3)
                .concat()
                .contains("ERROR: Job failed: command terminated with exit code 3")
        );
        let stamped = write(&Machine { timestamps: true, ..machine }, &job, 0).concat();
        assert!(stamped.lines().all(|line| line.starts_with("2026-")), "{stamped}");
        // A section's title continues its marker, which continues the end of the section before.
        let stamp = "2026-09-21T14:13:22.000000Z 00O";
        let expected = format!(
            "{stamp} section_end:1790000002:prepare_script\r\u{1b}[0K\n\
             {stamp}+section_start:1790000002:get_sources\r\u{1b}[0K\n\
             {stamp}+\u{1b}[0K\u{1b}[36;1mGetting source from Git repository\u{1b}[0;m\u{1b}[0;m\n"
        );
        assert!(stamped.contains(&expected), "{stamped}");
    }
}
