//! The machine with the runner on it: it registers, asks for jobs, and plays them.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::FakeGitlab;
use super::machine::{Behaviour, Driven, DriverOptions};
use super::transcript::{self, Machine};
use crate::http::{Http, Reply};
use crate::wire::lock;

#[derive(Default)]
struct Progress {
    stop: bool,
    behaviour: Behaviour,
    /// Whether the end of a job is being told: GitLab may know it already, but not yet whoever asks here.
    ending: bool,
    jobs: Vec<Driven>,
    problems: Vec<String>,
}

#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
}

impl Shared {
    /// Waits until time is up or something has changed; says whether to go on.
    fn rest(&self, pause: Duration) -> bool {
        let progress = lock(&self.progress);
        if progress.stop {
            return false;
        }
        let waited = self.changed.wait_timeout(progress, pause);
        waited.is_ok_and(|(progress, _)| !progress.stop)
    }

    fn behaviour(&self) -> Behaviour {
        lock(&self.progress).behaviour.clone()
    }
}

/// A machine at work in a thread of its own; dropped, it stops.
pub struct RunnerDriver {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl RunnerDriver {
    /// Boots a machine.
    #[must_use]
    pub fn start(options: DriverOptions) -> Self {
        let shared = Arc::new(Shared::default());
        lock(&shared.progress).behaviour = options.behaviour.clone();
        let machine = Driver {
            http: Http::new(&options.url, &options.ca_pem),
            options,
            shared: Arc::clone(&shared),
            last_update: String::new(),
        };
        let thread = std::thread::spawn(move || machine.run());
        Self { shared, thread: Some(thread) }
    }

    /// Boots a machine that does all well, for a runner of this GitLab.
    #[must_use]
    pub fn for_token(gitlab: &FakeGitlab, token: &str) -> Self {
        Self::start(DriverOptions::new(gitlab, token))
    }

    /// Changes how it behaves from now on; a job that stalls goes on by it.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        lock(&self.shared.progress).behaviour = behaviour;
        self.shared.changed.notify_all();
    }

    /// The jobs that came to an end on it, with every one that GitLab knows the end of.
    #[must_use]
    pub fn jobs(&self) -> Vec<Driven> {
        let progress = lock(&self.shared.progress);
        let longest = Duration::from_secs(10);
        let waited = self.shared.changed.wait_timeout_while(progress, longest, |progress| progress.ending);
        waited.map(|(progress, _)| progress.jobs.clone()).unwrap_or_default()
    }

    /// What went wrong: refusals, with their status and text.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        lock(&self.shared.progress).problems.clone()
    }
}

impl Drop for RunnerDriver {
    fn drop(&mut self) {
        lock(&self.shared.progress).stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The checksum that runners send of a log: CRC-32 as in zip files.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let shift = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        (0..8).fold(crc ^ u32::from(*byte), shift)
    };
    !bytes.iter().fold(u32::MAX, step)
}

struct Driver {
    http: Http,
    options: DriverOptions,
    shared: Arc<Shared>,
    last_update: String,
}

impl Driver {
    fn info(&self) -> Value {
        json!({
            "name": "gitlab-runner", "version": self.options.version, "revision": "d79f3e7b",
            "platform": "linux", "architecture": "amd64", "executor": "kubernetes", "shell": "bash",
            "features": {"variables": true, "image": true, "services": true, "trace_reset": true,
                "trace_checksum": true, "trace_size": true, "cancelable": true, "return_exit_code": true},
        })
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
        self.http.send(method, &format!("/api/v4{path}"), headers, body)
    }

    fn send_json(&self, method: &str, path: &str, body: &Value) -> io::Result<Reply> {
        let headers = [("Content-Type", "application/json"), ("RUNNER-TOKEN", self.options.token.as_str())];
        self.send(method, path, &headers, body.to_string().as_bytes())
    }

    fn complain(&self, what: &str, reply: &Reply) {
        let problem = format!("{what}: {} {}", reply.status, reply.text());
        lock(&self.shared.progress).problems.push(problem);
    }

    fn run(mut self) {
        while self.shared.behaviour() == Behaviour::Silent {
            if !self.shared.rest(self.options.poll) {
                return;
            }
        }
        if !self.register() {
            return;
        }
        let mut refused = 0;
        while self.shared.rest(self.options.poll) {
            if matches!(self.shared.behaviour(), Behaviour::RegisterOnly | Behaviour::Silent) {
                continue;
            }
            match self.ask() {
                Some(reply) if reply.status == 201 => {
                    refused = 0;
                    self.play(&reply.json());
                }
                Some(reply) if (400..500).contains(&reply.status) && reply.status != 429 => {
                    self.complain("jobs/request", &reply);
                    refused += 1;
                    // Real ones then do nothing for an hour, which no test waits for.
                    if refused == 3 {
                        return;
                    }
                }
                _ => refused = 0,
            }
        }
    }

    /// Checks the token; tries again unless it is refused.
    fn register(&self) -> bool {
        let body = json!({
            "token": self.options.token, "system_id": self.options.system_id, "info": self.info(),
        });
        loop {
            match self.send_json("POST", "/runners/verify", &body) {
                Ok(reply) if reply.status == 200 => return true,
                Ok(reply) => {
                    self.complain("runners/verify", &reply);
                    if (400..500).contains(&reply.status) && reply.status != 429 {
                        return false;
                    }
                }
                Err(_) => {}
            }
            if !self.shared.rest(self.options.poll) {
                return false;
            }
        }
    }

    fn ask(&mut self) -> Option<Reply> {
        let body = json!({
            "token": self.options.token, "system_id": self.options.system_id, "info": self.info(),
            "last_update": self.last_update,
        });
        let reply = self.send_json("POST", "/jobs/request", &body).ok()?;
        let update = reply.header("x-gitlab-last-update");
        if !update.is_empty() {
            update.clone_into(&mut self.last_update);
        }
        Some(reply)
    }

    fn play(&self, job: &Value) {
        let id = job["id"].as_u64().unwrap_or_default();
        let outcome = self.work(id, job);
        let mut progress = lock(&self.shared.progress);
        progress.ending = false;
        self.shared.changed.notify_all();
        // A machine that is switched off ends nothing.
        if !progress.stop {
            let outcome = outcome.unwrap_or_else(|| "canceled".to_owned());
            progress.jobs.push(Driven { id, outcome });
        }
    }

    /// Works on a job to its end; nothing if GitLab takes it away, or the machine stops.
    fn work(&self, id: u64, job: &Value) -> Option<String> {
        let token = job["token"].as_str().unwrap_or_default();
        self.report(id, &json!({"token": token, "state": "running", "info": self.info()}))?;
        let exit_code = |behaviour: &Behaviour| match behaviour {
            Behaviour::Fail { exit_code, .. } => *exit_code,
            _ => 0,
        };
        let machine = Machine {
            version: &self.options.version,
            name: &self.options.name,
            system_id: &self.options.system_id,
            namespace: &self.options.namespace,
            timestamps: self.options.timestamps,
            output: &self.options.output,
        };
        let written_by = |exit_code: i64| {
            let lines = transcript::write(&machine, job, exit_code);
            match self.options.portion {
                0 => lines.into_iter().map(String::into_bytes).collect(),
                size => lines.concat().as_bytes().chunks(size).map(<[u8]>::to_vec).collect::<Vec<_>>(),
            }
        };
        let mut behaviour = self.shared.behaviour();
        let mut portions = written_by(exit_code(&behaviour));
        let half = portions.len() / 2;
        let mut written = Vec::new();
        let mut index = 0;
        while index < portions.len() {
            if index == half && behaviour == Behaviour::Stall {
                while behaviour == Behaviour::Stall {
                    if !self.shared.rest(self.options.poll) {
                        return None;
                    }
                    // Runners with nothing to write still tell that they are alive, and hear of an end.
                    self.report(id, &json!({"token": token, "state": "running"}))?;
                    behaviour = self.shared.behaviour();
                }
                portions = written_by(exit_code(&behaviour));
            }
            self.append(id, token, &mut written, &portions[index])?;
            index += 1;
        }
        let output = json!({"checksum": format!("crc32:{:08x}", crc32(&written)), "bytesize": written.len()});
        let mut end = json!({"token": token, "state": "success", "output": output, "exit_code": 0});
        if let Behaviour::Fail { reason, exit_code } = &behaviour {
            end["state"] = "failed".into();
            end["failure_reason"] = reason.as_str().into();
            end["exit_code"] = (*exit_code).into();
        }
        lock(&self.shared.progress).ending = true;
        self.report(id, &end)?;
        end["state"].as_str().map(str::to_owned)
    }

    /// Tells the state of a job, again if the server does not answer soundly; nothing if it is refused.
    fn report(&self, id: u64, body: &Value) -> Option<()> {
        loop {
            match self.send_json("PUT", &format!("/jobs/{id}"), body) {
                Ok(reply) if reply.status == 200 => {
                    let canceled = matches!(reply.header("job-status"), "canceled" | "failed");
                    return (!canceled).then_some(());
                }
                Ok(reply) if (400..500).contains(&reply.status) && reply.status != 429 => {
                    self.complain(&format!("jobs/{id}"), &reply);
                    return None;
                }
                _ => {}
            }
            if !self.shared.rest(self.options.poll) {
                return None;
            }
        }
    }

    /// Appends to a job's log, again if the server does not answer soundly; nothing if it is refused.
    fn append(&self, id: u64, token: &str, written: &mut Vec<u8>, more: &[u8]) -> Option<()> {
        let mut from = written.len();
        written.extend_from_slice(more);
        loop {
            let range = format!("{from}-{}", written.len() - 1);
            let headers =
                [("Content-Type", "text/plain"), ("JOB-TOKEN", token), ("Content-Range", range.as_str())];
            let path = format!("/jobs/{id}/trace?debug_trace=false");
            match self.send("PATCH", &path, &headers, &written[from..]) {
                Ok(reply) if reply.status == 202 => {
                    let canceled = matches!(reply.header("job-status"), "canceled" | "failed");
                    return (!canceled).then_some(());
                }
                Ok(reply) if reply.status == 416 => {
                    let size = reply.header("range").rsplit('-').next().and_then(|size| size.parse().ok());
                    from = size.filter(|size| *size <= written.len())?;
                    if from == written.len() {
                        return Some(());
                    }
                }
                Ok(reply) if (400..500).contains(&reply.status) && reply.status != 429 => {
                    self.complain(&format!("jobs/{id}/trace"), &reply);
                    return None;
                }
                _ => {
                    if !self.shared.rest(self.options.poll) {
                        return None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn checksums_are_those_of_zip_files() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
    }
}
