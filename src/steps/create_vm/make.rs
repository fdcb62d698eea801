//! Makes the instance and completes it. Its name makes the creation happen at most once.

use std::collections::BTreeMap;
use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use super::offer::Offer;
use super::{CreateVm, LATE, foreign};
use crate::base::error::{Failure, Id, Result};
use crate::base::wait::{self, Pace};
use crate::deployment::record::{self, Vm};
use crate::machine::lightsail::{
    Class, Instance, NewInstance, Operation, Port, Refusal, StaticIp, Writer, policy,
};
use crate::machine::vm;
use crate::steps::contract::{Step as _, Writes};

/// Another resource of the region has the name: Lightsail's names are shared by all kinds.
fn taken(name: &str, refusal: &Refusal) -> Failure {
    let failure =
        Failure::new(Id::AwsNameTaken, format!("another resource of the region has the name {name}"));
    failure
        .detail(
            "because",
            "instances, static IPs, key pairs, disks and databases of a region share their names",
        )
        .detail("AWS says", refusal.message.clone())
        .hint("use another name, --deployment NAME, or delete the resource yourself if it is unused")
}

/// Creates the instance. Its name makes it happen at most once: after a lost answer outrigger looks before it sends the
/// request again.
pub(super) async fn create(w: Writes<'_>, writer: &Writer, offer: &Offer) -> Result<()> {
    let name = w.machine.vm().unwrap_or_else(|| vm::name(&w.run.names.deployment));
    let (api, identity) = w.machine.lightsail().await?;
    // An earlier request whose answer was lost may still be carried out.
    let before = w.notes.record().vm.clone();
    let earlier = before.as_ref().filter(|vm| vm.arn.is_empty() && !vm.nonce.is_empty());
    let nonce = match &earlier {
        Some(vm) => vm.nonce.clone(),
        None => record::random_hex(16)?,
    };
    let intent = Vm {
        account: identity.account.clone(),
        region: api.region().to_owned(),
        name: name.clone(),
        nonce: nonce.clone(),
        zone: offer.zone.clone(),
        image: offer.image.clone(),
        size: offer.size.clone(),
        cents: offer.cents,
        open: true,
        static_ip: before.as_ref().map(|vm| vm.static_ip.clone()).unwrap_or_default(),
        static_ip_arn: before.as_ref().map(|vm| vm.static_ip_arn.clone()).unwrap_or_default(),
        ..Vm::default()
    };
    w.journal.write(|record| {
        record.vm = Some(intent);
        // Whatever the script that is recorded: this machine has not run it.
        record.script_due = true;
    })?;
    let tags = [
        (policy::TAG, w.notes.id()),
        (vm::NONCE, nonce),
        ("outrigger:deployment", w.run.names.deployment.clone()),
        ("managed-by", "outrigger".to_owned()),
    ];
    let new = NewInstance {
        name: name.clone(),
        zone: offer.zone.clone(),
        image: offer.image.clone(),
        size: offer.size.clone(),
        tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
    };
    for last in [false, true] {
        let refusal = match writer.create(&new).await {
            Ok(operations) => return created(w, writer, &name, &operations).await,
            Err(refusal) => refusal,
        };
        let clash = refusal.class == Class::NameTaken;
        if !clash && !refusal.is_ambiguous() {
            // Nothing was made.
            w.journal.write(|record| record.vm.clone_from(&before))?;
            return Err(refusal.into());
        }
        // After a clash something has the name already: no need to wait for it long.
        let time = if clash { LATE / 6 } else { LATE };
        let seen = appears(w, writer, &name, time).await;
        if clash && !last && earlier.is_none() && !matches!(seen, Ok(Some(()))) {
            // No request of ours can have been carried out.
            w.journal.write(|record| record.vm.clone_from(&before))?;
        }
        match seen? {
            Some(()) => return Ok(()),
            None if clash => return Err(taken(&name, &refusal)),
            None if last => return Err(refusal.into()),
            None => {}
        }
    }
    Ok(())
}

/// Waits for the end of the creation. One that failed leaves no intent.
async fn created(w: Writes<'_>, writer: &Writer, name: &str, operations: &[Operation]) -> Result<()> {
    let Err(mut failure) = ended(w, writer, name, operations).await else { return Ok(()) };
    if failure.id != Id::AwsOperation || writer.instance(name).await.map_err(Failure::from)?.is_some() {
        return Err(failure);
    }
    w.journal.write(|record| unmade(&mut record.vm))?;
    failure.hints.clear();
    let hint = "nothing was created; run the same command again, or choose another zone: --vm-zone ZONE";
    Err(failure.hint(hint))
}

/// There is no instance. A static IP that was allocated stays to be released.
pub(super) fn unmade(noted: &mut Option<Vm>) {
    *noted = noted.take().filter(|vm| !vm.static_ip.is_empty()).map(|vm| Vm {
        arn: String::new(),
        nonce: String::new(),
        address: String::new(),
        open: false,
        ..vm
    });
}

/// Waits for the instance after an unclear end; fails if it is somebody else's.
async fn appears(w: Writes<'_>, writer: &Writer, name: &str, time: Duration) -> Result<Option<()>> {
    let seen = wait::until(
        Pace::new(&w.machine.limits, 1000, 3000).or_within(time),
        |(), waited| w.progress.waiting(CreateVm::INFO.name, &format!("{name}, after a lost answer"), waited),
        async || match writer.instance(name).await.map_err(Failure::from)? {
            None => Ok::<_, Failure>(Continue(())),
            Some(live) => match foreign(w.run, w.notes.record().vm.as_ref(), &live) {
                Some(failure) => Err(failure),
                None => Ok(Break(())),
            },
        },
    );
    Ok(seen.await?.ok())
}

/// Waits for the end of operations on what has this name.
pub(super) async fn ended(
    w: Writes<'_>,
    writer: &Writer,
    name: &str,
    operations: &[Operation],
) -> Result<()> {
    for begun in operations {
        let seen = wait::until(
            Pace::new(&w.machine.limits, 500, 3000).within(w.run.settings.wait),
            |_, waited| w.progress.waiting(CreateVm::INFO.name, "Lightsail", waited),
            async || {
                match writer.operation(&begun.id).await {
                    Ok(now) if now.is_terminal => Ok::<_, Failure>(Break(now)),
                    Ok(now) => Ok(Continue(now)),
                    // It is not kept for ever: the instance itself tells more.
                    Err(refusal) if refusal.class == Class::NotFound => Ok(Break(begun.clone())),
                    Err(refusal) => Err(refusal.into()),
                }
            },
        );
        let last =
            seen.await?.map_err(|now| vm::not_ready(name, &format!("{} is {}", now.kind, now.status)))?;
        if last.has_failed() {
            let failure = Failure::new(
                Id::AwsOperation,
                format!("Lightsail did not carry out {} for {name}", last.kind),
            )
            .detail("AWS says", format!("{} {}", last.error_code, last.error_details).trim().to_owned());
            return Err(failure.hint("run the same command again"));
        }
    }
    Ok(())
}

/// Waits until the instance runs and has its address, sets its ports and protects its metadata, each as soon as it is
/// accepted, and reads both back.
pub(super) async fn complete(w: Writes<'_>, writer: &Writer, opens: bool) -> Result<String> {
    let name = w.machine.vm().unwrap_or_default();
    w.machine.limits.deadline.extend(w.run.settings.wait);
    let planned: Vec<Port> = if opens { vec![vm::door(&w.run.settings)] } else { Vec::new() };
    w.machine.open_soon()?;
    let (mut asked, mut ports, mut refused) = (false, !opens, String::new());
    // Of an instance that is named and not recorded: its port is about to be opened.
    let fresh = || Vm { open: true, ..Vm::default() };
    let live = |instance: &Instance| -> Result<()> {
        let address = instance.address.map(|address| address.to_string()).unwrap_or_default();
        let is_noted = |vm: &Vm| vm.arn == instance.arn && vm.address == address;
        if w.notes.record().vm.as_ref().is_some_and(is_noted) {
            return Ok(());
        }
        let noted = w.notes.record().vm.clone();
        w.journal.write(|record| record.vm = Some(note(noted.unwrap_or_else(fresh), instance, &address)))
    };
    let seen = wait::until(
        Pace::new(&w.machine.limits, 500, 3000).within(w.run.settings.wait),
        |what: &String, waited| w.progress.waiting(CreateVm::INFO.name, &format!("{name}: {what}"), waited),
        async || {
            let Some(instance) = writer.instance(&name).await.map_err(Failure::from)? else {
                return Ok(Continue("AWS does not show it yet".to_owned()));
            };
            if let Some(failure) = foreign(w.run, w.notes.record().vm.as_ref(), &instance) {
                return Err(failure);
            }
            live(&instance)?;
            if !ports {
                match writer.put_ports(&name, &planned).await {
                    Ok(_) => ports = true,
                    Err(refusal) if vm::is_early(&refusal) => refused = refusal.message,
                    Err(refusal) => return Err(refusal.into()),
                }
            }
            if instance.state != "running" {
                return Ok(Continue(format!("its state is {}", instance.state)));
            }
            if !asked && !instance.tokens_required {
                match writer.require_metadata_tokens(&name).await {
                    Ok(_) => asked = true,
                    Err(refusal) if vm::is_early(&refusal) => {}
                    Err(refusal) => return Err(refusal.into()),
                }
            }
            let lack = if instance.address.is_none() {
                "it has no address yet".to_owned()
            } else if !ports {
                format!("AWS does not accept its ports: {refused}")
            } else if opens && !vm::is_same(&instance.ports, &planned) {
                format!("its ports are {}", vm::shown(&instance.ports))
            } else if !instance.tokens_required {
                "its metadata is not protected yet".to_owned()
            } else {
                return Ok(Break(instance));
            };
            Ok(Continue(lack))
        },
    );
    let mut instance = seen.await?.map_err(|lack| vm::not_ready(&name, &lack))?;
    if w.run.settings.vm_static_ip && !instance.has_static_ip {
        instance = static_ip(w, writer, &name).await?;
        live(&instance)?;
    }
    if opens {
        w.machine.opened();
    }
    let address = instance.address.map(|address| address.to_string()).unwrap_or_default();
    Ok(format!("{name} is running in {}, {address}", instance.zone))
}

/// The record's note on an instance, also of one that `--vm-arn` names.
fn note(noted: Vm, instance: &Instance, address: &str) -> Vm {
    let place: Vec<&str> = instance.arn.split(':').collect();
    let part = |at: usize, known: &str| {
        if known.is_empty() {
            place.get(at).copied().unwrap_or_default().to_owned()
        } else {
            known.to_owned()
        }
    };
    Vm {
        account: part(4, &noted.account),
        region: part(3, &noted.region),
        name: instance.name.clone(),
        arn: instance.arn.clone(),
        address: address.to_owned(),
        zone: instance.zone.clone(),
        image: instance.image.clone(),
        size: instance.size.clone(),
        ..noted
    }
}

/// Allocates and attaches the static IP; waits until the instance has it.
async fn static_ip(w: Writes<'_>, writer: &Writer, name: &str) -> Result<Instance> {
    let noted = w.notes.record().vm.as_ref().map(|vm| vm.static_ip.clone()).unwrap_or_default();
    let ip = if noted.is_empty() { format!("{name}-ip") } else { noted.clone() };
    let is_ours = |live: &StaticIp| {
        let arn = w.notes.record().vm.as_ref().map(|vm| vm.static_ip_arn.clone()).unwrap_or_default();
        arn.is_empty() || arn == live.arn
    };
    let live = writer.static_ip(&ip).await.map_err(Failure::from)?;
    if live.as_ref().is_some_and(|live| noted.is_empty() || !is_ours(live)) {
        return Err(Failure::new(
            Id::AwsNameTaken,
            format!("the static IP {ip} was not allocated by this deployment"),
        )
        .hint("release it yourself if it is unused, or use another --deployment"));
    }
    if live.is_none() {
        w.journal.write(|record| {
            if let Some(vm) = &mut record.vm {
                vm.static_ip.clone_from(&ip);
                vm.static_ip_arn.clear();
            }
        })?;
        match writer.allocate_static_ip(&ip).await {
            Ok(operations) => ended(w, writer, &ip, &operations).await?,
            Err(refusal) if refusal.is_ambiguous() => {}
            Err(refusal) => {
                w.journal.write(|record| record.vm.iter_mut().for_each(|vm| vm.static_ip.clear()))?;
                return Err(match refusal.class {
                    Class::NameTaken => taken(&ip, &refusal),
                    _ => refusal.into(),
                });
            }
        }
    }
    let live = writer.static_ip(&ip).await.map_err(Failure::from)?;
    let arn = live.map(|live| live.arn).unwrap_or_default();
    w.journal.write(|record| record.vm.iter_mut().for_each(|vm| vm.static_ip_arn.clone_from(&arn)))?;
    let operations = writer.attach_static_ip(&ip, name).await.map_err(Failure::from)?;
    ended(w, writer, &ip, &operations).await?;
    let seen = wait::until(
        Pace::new(&w.machine.limits, 500, 3000).within(w.run.settings.wait),
        |(), waited| w.progress.waiting(CreateVm::INFO.name, &format!("{name}: its static IP"), waited),
        async || match writer.instance(name).await.map_err(Failure::from)? {
            Some(live) if live.has_static_ip && live.address.is_some() => Ok::<_, Failure>(Break(live)),
            _ => Ok(Continue(())),
        },
    );
    seen.await?.map_err(|()| vm::not_ready(name, "it does not have its static IP"))
}
