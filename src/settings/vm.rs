//! The values of the settings for a VM on Amazon Lightsail. Which of them the account's region offers is looked at
//! by create-vm.

/// The ports' source for "from anywhere".
pub const ANYWHERE: &str = "anywhere";
/// No port stays open.
pub const NONE: &str = "none";
/// The SSH of Lightsail's console.
pub const CONSOLE: &str = "console";

/// Checks `--vm-region`, which is part of a host name.
pub fn region(value: &str) -> Result<String, String> {
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if value.len() > 32 || value.split('-').count() < 3 || !value.split('-').all(is_word) {
        return Err("is not the name of an AWS region, such as eu-central-1".to_owned());
    }
    Ok(value.to_owned())
}

/// Checks `--vm-zone`.
pub fn zone(value: &str) -> Result<String, String> {
    let is_zone = value.ends_with(|c: char| c.is_ascii_lowercase())
        && region(value.trim_end_matches(|c: char| c.is_ascii_lowercase())).is_ok();
    if is_zone {
        Ok(value.to_owned())
    } else {
        Err("is not an availability zone, such as eu-central-1a".to_owned())
    }
}

/// Checks the id of a blueprint or a bundle.
pub fn id(value: &str) -> Result<String, String> {
    let is_id = (2..=64).contains(&value.len())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_id {
        Ok(value.to_owned())
    } else {
        Err("is not an id of Lightsail, such as debian_12 or micro_3_0".to_owned())
    }
}

/// Checks `--vm-arn`: `arn:aws:lightsail:REGION:ACCOUNT:Instance/UUID`.
pub fn arn(value: &str) -> Result<String, String> {
    let parts: Vec<&str> = value.split(':').collect();
    let is_arn = match parts.as_slice() {
        ["arn", "aws", "lightsail", place, account, resource] => {
            region(place).is_ok()
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && resource.strip_prefix("Instance/").is_some_and(|id| {
                    !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                })
        }
        _ => false,
    };
    if is_arn {
        Ok(value.to_owned())
    } else {
        Err("is not arn:aws:lightsail:REGION:ACCOUNT:Instance/ID".to_owned())
    }
}

/// Checks a value of `--ssh-from`.
pub fn source(value: &str) -> Result<String, String> {
    if value == ANYWHERE {
        return Ok(value.to_owned());
    }
    network(value).map_err(|()| "is neither anywhere nor a network, such as 203.0.113.7/32".to_owned())
}

/// Checks a value of `--ssh-after`.
pub fn after(value: &str) -> Result<String, String> {
    if [NONE, CONSOLE].contains(&value) {
        return Ok(value.to_owned());
    }
    network(value).map_err(|()| "is neither none, console nor a network, such as 203.0.113.7/32".to_owned())
}

/// An address is the network of itself. A network's address has no bits of hosts.
fn network(value: &str) -> Result<String, ()> {
    if let Ok(address) = value.parse::<std::net::IpAddr>() {
        return Ok(ipnet::IpNet::from(address).to_string());
    }
    let network: ipnet::IpNet = value.parse().map_err(|_| ())?;
    Ok(network.trunc().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_zones_and_ids() {
        for good in ["eu-central-1", "us-gov-west-1"] {
            assert_eq!(region(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "eu", "eu-central", "EU-central-1", "eu-central-1.evil.example", "eu--1", "eu-central-1/"]
        {
            assert!(region(bad).is_err(), "{bad}");
        }
        assert!(zone("eu-central-1a").is_ok());
        assert!(zone("eu-central-1").is_err() && zone("a").is_err());
        assert!(id("debian_12").is_ok() && id("micro_3_0").is_ok());
        assert!(id("").is_err() && id("a b").is_err());
    }

    #[test]
    fn arns_of_instances() {
        assert!(arn("arn:aws:lightsail:eu-central-1:123456789012:Instance/0f-1").is_ok());
        for bad in [
            "",
            "arn:aws:lightsail:eu-central-1:123456789012:StaticIp/0f-1",
            "arn:aws:ec2:eu-central-1:123456789012:Instance/0f-1",
            "arn:aws:lightsail:eu-central-1:12345:Instance/0f-1",
            "arn:aws:lightsail:eu-central-1:123456789012:Instance/",
        ] {
            assert!(arn(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_written_in_one_form() {
        assert_eq!(source("anywhere").as_deref(), Ok("anywhere"));
        assert_eq!(source("203.0.113.7").as_deref(), Ok("203.0.113.7/32"));
        assert_eq!(source("203.0.113.7/24").as_deref(), Ok("203.0.113.0/24"));
        assert_eq!(after("2001:db8::1/64").as_deref(), Ok("2001:db8::/64"));
        assert_eq!(after("console").as_deref(), Ok("console"));
        assert!(source("none").is_err() && after("anywhere").is_err() && source("300.1.1.1").is_err());
    }
}
