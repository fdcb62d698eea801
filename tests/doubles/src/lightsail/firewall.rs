//! The firewall of an instance.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::call::{Call, Outcome, texts};
use super::hardware::OpenPort;
use super::refusal::Error;
use super::world::Rule;

const WORLD: &str = "0.0.0.0/0";
const WORLD_6: &str = "::/0";

/// What a Linux instance begins with: SSH and HTTP, for everybody.
pub(crate) fn defaults() -> Vec<Rule> {
    let open = |port| Rule {
        protocol: "tcp".to_owned(),
        from: port,
        to: port,
        cidrs: vec![WORLD.to_owned()],
        ipv6_cidrs: vec![WORLD_6.to_owned()],
        aliases: Vec::new(),
    };
    vec![open(22), open(80)]
}

pub(crate) fn put(call: &mut Call<'_>) -> Outcome {
    let infos = call.body["portInfos"].as_array().cloned().unwrap_or_default();
    // What the service makes of none is not known.
    if infos.is_empty() {
        return Err(Error::input("At least one port must be given"));
    }
    let open = call.state.options.unnamed_family_open;
    let rules = infos.iter().map(|info| rule(info, open)).collect::<Outcome<Vec<Rule>>>()?;
    let same = |a: &Rule, b: &Rule| ports(a) == ports(b);
    if rules.iter().enumerate().any(|(index, one)| rules[..index].iter().any(|other| same(one, other))) {
        return Err(Error::input("A port is given twice"));
    }
    change(call, "PutInstancePublicPorts", rules)
}

pub(crate) fn close(call: &mut Call<'_>) -> Outcome {
    let info = call.body["portInfo"].clone();
    let wanted = rule(&info, false)?;
    let strict = call.state.options.closing_closed_refused;
    let mut rules = call.instance()?.1.rules.clone();
    let Some(found) = rules.iter_mut().find(|rule| ports(rule) == ports(&wanted)) else {
        if strict {
            return Err(Error::input(format!("The port is not open: {}/{}", wanted.from, wanted.protocol)));
        }
        return change(call, "CloseInstancePublicPorts", rules);
    };
    let named = |member: &str| !info[member].is_null();
    if named("cidrs") || named("ipv6Cidrs") || named("cidrListAliases") {
        found.cidrs.retain(|cidr| !wanted.cidrs.contains(cidr));
        found.ipv6_cidrs.retain(|cidr| !wanted.ipv6_cidrs.contains(cidr));
        found.aliases.retain(|alias| !wanted.aliases.contains(alias));
    } else {
        (found.cidrs, found.ipv6_cidrs, found.aliases) = (Vec::new(), Vec::new(), Vec::new());
    }
    rules.retain(|rule| !(rule.cidrs.is_empty() && rule.ipv6_cidrs.is_empty() && rule.aliases.is_empty()));
    change(call, "CloseInstancePublicPorts", rules)
}

pub(crate) fn states(call: &mut Call<'_>) -> Outcome {
    let rules = call.instance()?.1.rules.clone();
    let shown = rules.iter().map(|rule| {
        let mut shown = show(rule);
        shown["state"] = "open".into();
        shown
    });
    Ok(json!({"portStates": shown.collect::<Value>()}))
}

fn change(call: &mut Call<'_>, kind: &'static str, rules: Vec<Rule>) -> Outcome {
    let (name, instance) = call.instance()?;
    let (machine, zone) = (instance.machine, instance.zone.clone());
    let place = (call.key.spec.account.clone(), call.region.clone());
    let state = call.state_of(call.state.worlds[&place].instance(&name).expect("it was found")).1;
    if state == "shutting-down" || (state == "pending" && call.state.options.ports_need_running) {
        return Err(Error::operation(format!("The instance {name} is {state}: its ports cannot be changed")));
    }
    let (operation, fails) = call.operation(kind, (&name, "Instance"), &details(&rules), &zone);
    if !fails {
        if machine {
            call.hardware().ports(&name, &open_ports(&rules));
        }
        call.instance()?.1.rules = rules;
    }
    Ok(json!({"operation": operation}))
}

fn ports(rule: &Rule) -> (&str, i64, i64) {
    (&rule.protocol, rule.from, rule.to)
}

fn details(rules: &[Rule]) -> String {
    let each = rules.iter().map(|rule| format!("{}/{}-{}", rule.protocol, rule.from, rule.to));
    each.collect::<Vec<_>>().join(",")
}

/// A rule as it was asked for; a family that it does not mention is `open` or not.
fn rule(info: &Value, open: bool) -> Outcome<Rule> {
    let (Some(protocol), Some(from), Some(to)) =
        (info["protocol"].as_str(), info["fromPort"].as_i64(), info["toPort"].as_i64())
    else {
        return Err(Error::input("A port has fromPort, toPort and protocol"));
    };
    let (low, high) = match protocol {
        "icmp" => (-1, 255),
        "icmpv6" => (-1, -1),
        _ => (0, 65535),
    };
    let whole = protocol != "all" || (from, to) == (0, 65535);
    let ordered = from <= to || protocol == "icmp";
    if !whole || !ordered || !(low..=high).contains(&from) || !(low..=high).contains(&to) {
        return Err(Error::input(format!("The ports {from} to {to} are not valid for {protocol}")));
    }
    let aliases = texts(&info["cidrListAliases"]);
    if let Some(alias) = aliases.iter().find(|alias| *alias != "lightsail-connect") {
        return Err(Error::input(format!("The alias is not valid: {alias}")));
    }
    let mut rule =
        Rule { protocol: protocol.to_owned(), from, to, cidrs: Vec::new(), ipv6_cidrs: Vec::new(), aliases };
    let silent = info["cidrs"].is_null() && info["ipv6Cidrs"].is_null() && info["cidrListAliases"].is_null();
    let unnamed = |member: &str| info[member].is_null() && (open || silent);
    for cidr in texts(&info["cidrs"]) {
        rule.cidrs.push(network::<Ipv4Addr>(&cidr, 32)?);
    }
    for cidr in texts(&info["ipv6Cidrs"]) {
        rule.ipv6_cidrs.push(network::<Ipv6Addr>(&cidr, 128)?);
    }
    if unnamed("cidrs") && protocol != "icmpv6" {
        rule.cidrs.push(WORLD.to_owned());
    }
    if unnamed("ipv6Cidrs") && protocol != "icmp" {
        rule.ipv6_cidrs.push(WORLD_6.to_owned());
    }
    if rule.cidrs.is_empty() && rule.ipv6_cidrs.is_empty() && rule.aliases.is_empty() {
        return Err(Error::input("A port is opened for some address"));
    }
    Ok(rule)
}

/// A network in the notation that the service gives back; one address is a network of its own.
fn network<A: std::str::FromStr + ToString>(text: &str, most: u8) -> Outcome<String> {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let length = if text.contains('/') { length.parse().ok() } else { Some(most) };
    match (address.parse::<A>().ok(), length.filter(|length| *length <= most)) {
        (Some(address), Some(length)) => Ok(format!("{}/{length}", address.to_string())),
        _ => Err(Error::input(format!("The CIDR is not valid: {text}"))),
    }
}

/// A rule as port states have it.
pub(crate) fn show(rule: &Rule) -> Value {
    json!({
        "fromPort": rule.from, "toPort": rule.to, "protocol": rule.protocol, "cidrs": rule.cidrs,
        "ipv6Cidrs": rule.ipv6_cidrs, "cidrListAliases": rule.aliases,
    })
}

/// A rule as `GetInstance` shows it.
pub(crate) fn show_info(rule: &Rule) -> Value {
    let mut shown = show(rule);
    let world =
        rule.cidrs.iter().any(|cidr| cidr == WORLD) && rule.ipv6_cidrs.iter().any(|cidr| cidr == WORLD_6);
    shown["accessFrom"] = if world { "Anywhere (0.0.0.0/0 and ::/0)" } else { "Custom" }.into();
    shown["accessType"] = "Public".into();
    shown["accessDirection"] = "inbound".into();
    shown["commonName"] = match (rule.from, rule.to) {
        (22, 22) => "SSH",
        (80, 80) => "HTTP",
        _ => "",
    }
    .into();
    shown
}

/// Rules as the machine's firewall gets them.
pub(crate) fn open_ports(rules: &[Rule]) -> Vec<OpenPort> {
    let open = rules.iter().map(|rule| {
        let cidrs = rule.cidrs.iter().chain(&rule.ipv6_cidrs).cloned().collect();
        OpenPort { protocol: rule.protocol.clone(), from: rule.from, to: rule.to, cidrs }
    });
    open.collect()
}
