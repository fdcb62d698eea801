//! Deletes the instance and releases its static IP, and reads both back.

use std::ops::ControlFlow::{Break, Continue};

use super::make::{ended, unmade};
use super::{CreateVm, LATE, foreign};
use crate::base::error::{Command, Failure, Id, Kind, Result};
use crate::base::files;
use crate::base::wait::{self, Pace};
use crate::deployment::record::Vm;
use crate::machine::vm;
use crate::steps::contract::{Step as _, Writes};

/// Deletes the instance, and reads back that it is gone.
pub(super) async fn delete(w: Writes<'_>, arn: &str) -> Result<String> {
    let writer = w.machine.lightsail_hand().await?;
    let name = match w.notes.record().vm.as_ref() {
        Some(vm) => vm.name.clone(),
        None => vm::name(&w.run.names.deployment),
    };
    w.machine.limits.deadline.extend(w.run.settings.wait);
    for path in vm::key_files(&w.run.settings.state_dir, &w.run.names.deployment) {
        files::remove(&path)?;
    }
    // Deletion is by name: who has it now is looked at last.
    match writer.instance(&name).await.map_err(Failure::from)? {
        Some(live) if live.arn == arn => match writer.delete(&name).await {
            Ok(operations) => ended(w, &writer, &name, &operations).await?,
            Err(refusal) if refusal.is_ambiguous() => {}
            Err(refusal) => return Err(refusal.into()),
        },
        Some(live) => {
            let gone = Vm { arn: arn.to_owned(), ..Vm::default() };
            return Err(foreign(w.run, Some(&gone), &live)
                .unwrap_or_else(|| Failure::new(Id::ForeignVm, format!("{name} is another instance now"))));
        }
        None => {}
    }
    let seen = wait::until(
        Pace::new(&w.machine.limits, 500, 3000).within(w.run.settings.wait),
        |(), waited| w.progress.waiting(CreateVm::INFO.name, &format!("{name} to be gone"), waited),
        async || match writer.instance(&name).await.map_err(Failure::from)? {
            Some(live) if live.arn == arn => Ok::<_, Failure>(Continue(())),
            _ => Ok(Break(())),
        },
    );
    seen.await?.map_err(|()| {
        Failure::new(Id::AwsOperation, format!("{name} is still there"))
            .with_kind(Kind::Deadline)
            .hint(("go on", Command::teardown("")))
    })?;
    w.journal.write(|record| unmade(&mut record.vm))?;
    Ok(format!("{name} deleted; read back: gone"))
}

pub(super) async fn release(w: Writes<'_>) -> Result<String> {
    let noted = w.notes.record().vm.clone().unwrap_or_default();
    let ip = noted.static_ip;
    let writer = w.machine.lightsail_hand().await?;
    // Released by name: who has it now is looked at last.
    let live = writer.static_ip(&ip).await.map_err(Failure::from)?;
    if live.is_some_and(|live| !noted.static_ip_arn.is_empty() && live.arn != noted.static_ip_arn) {
        return Err(Failure::new(
            Id::ForeignVm,
            format!("the static IP {ip} is another one than the recorded one"),
        ));
    }
    match writer.release_static_ip(&ip).await {
        Ok(_) => {}
        Err(refusal) if refusal.is_ambiguous() => {}
        Err(refusal) => return Err(refusal.into()),
    }
    let seen = wait::until(
        Pace::new(&w.machine.limits, 500, 3000).or_within(LATE),
        |(), waited| w.progress.waiting(CreateVm::INFO.name, &format!("static IP {ip} to be gone"), waited),
        async || match writer.static_ip(&ip).await.map_err(Failure::from)? {
            Some(_) => Ok::<_, Failure>(Continue(())),
            None => Ok(Break(())),
        },
    );
    seen.await?.map_err(|()| Failure::new(Id::AwsOperation, format!("the static IP {ip} is still there")))?;
    w.journal.write(|record| {
        let noted =
            record.vm.take().map(|vm| Vm { static_ip: String::new(), static_ip_arn: String::new(), ..vm });
        record.vm = noted.filter(|vm| !(vm.arn.is_empty() && vm.nonce.is_empty()));
    })?;
    Ok(format!("static IP {ip} released"))
}
