use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{Base, Profiles};
use crate::base::cancel::Cancel;
use crate::base::error::{Id, Result};
use crate::base::files::Intake;

async fn read(home: &Path, config: &str, keys: &str) -> Result<Profiles> {
    let dir = home.join(".aws");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("config"), config).expect("written");
    std::fs::write(dir.join("credentials"), keys).expect("written");
    let env = BTreeMap::from([("HOME".to_owned(), home.display().to_string())]);
    Profiles::read(&env, &Intake::new(&Cancel::default(), |_| {})).await
}

const CONFIG: &str = "
[default]
region = eu-west-1
[profile keys]
aws_access_key_id = AKIAKEYS
aws_secret_access_key = s
[profile process]
credential_process = /opt/creds --user me
[profile role]
role_arn = arn:aws:iam::1:role/a
source_profile = keys
external_id = x
duration_seconds = 3600
[profile chain]
role_arn = arn:aws:iam::1:role/b
source_profile = role
[profile own]
role_arn = arn:aws:iam::1:role/c
source_profile = own
credential_process = /opt/creds
[profile env]
role_arn = arn:aws:iam::1:role/d
credential_source = Environment
[profile ec2]
role_arn = arn:aws:iam::1:role/e
credential_source = Ec2InstanceMetadata
[profile container]
role_arn = arn:aws:iam::1:role/e
credential_source = EcsContainer
[profile mfa]
role_arn = arn:aws:iam::1:role/f
source_profile = keys
mfa_serial = arn:aws:iam::1:mfa/me
[profile login]
login_session = arn:aws:iam::1:user/me
[profile web]
role_arn = arn:aws:iam::1:role/g
web_identity_token_file = /token
[profile sso]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = ops
[sso-session corp]
sso_region = eu-west-1
sso_start_url = https://corp.awsapps.com/start
[profile old-sso]
sso_start_url = https://old.awsapps.com/start
sso_region = us-east-1
sso_account_id = 123456789012
sso_role_name = ops
[profile loop-a]
role_arn = arn:aws:iam::1:role/h
source_profile = loop-b
[profile loop-b]
role_arn = arn:aws:iam::1:role/h
source_profile = loop-a
[profile both]
role_arn = arn:aws:iam::1:role/h
source_profile = keys
credential_source = Environment
[profile neither]
role_arn = arn:aws:iam::1:role/h
[profile half]
aws_access_key_id = AKIAHALF
[profile gone]
role_arn = arn:aws:iam::1:role/h
source_profile = nowhere
[profile no-session]
sso_session = none
sso_account_id = 1
sso_role_name = ops
[profile short]
role_arn = arn:aws:iam::1:role/h
source_profile = keys
duration_seconds = 5
";

#[tokio::test]
async fn each_form_of_profile_is_told_from_the_others() {
    let home = tempfile::tempdir().expect("a directory");
    let profiles =
        read(home.path(), CONFIG, "[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = s\n")
            .await;
    let profiles = profiles.expect("profiles");
    let way = |name: &str| profiles.way(name).unwrap_or_else(|why| panic!("{name}: {why}"));
    let roles = |name: &str| way(name).roles.iter().map(|role| role.arn.clone()).collect::<Vec<_>>();
    for (name, id) in
        [("keys", "AKIAKEYS"), ("role", "AKIAKEYS"), ("chain", "AKIAKEYS"), ("other", "AKIAOTHER")]
    {
        assert!(matches!(way(name).base, Base::Keys(keys) if keys.id.expose() == id), "{name}");
    }
    assert_eq!(roles("chain"), ["arn:aws:iam::1:role/a", "arn:aws:iam::1:role/b"]);
    let role = &way("role").roles[0];
    assert_eq!((role.external_id.as_deref(), role.duration), (Some("x"), Some(Duration::from_secs(3600))));
    assert!(
        matches!(way("process").base, Base::Process(command) if command.expose() == "/opt/creds --user me")
    );
    assert!(matches!(way("own").base, Base::Process(_)) && roles("own").len() == 1);
    assert!(matches!(way("env").base, Base::Environment) && roles("env").len() == 1);
    assert!(matches!(way("ec2").base, Base::Ec2) && matches!(way("container").base, Base::Container));
    assert!(matches!(way("mfa").base, Base::Cli("mfa_serial")));
    assert!(matches!(way("login").base, Base::Cli("login_session")));
    assert!(
        matches!(way("web").base, Base::WebIdentity { role, .. } if role.ends_with("/g"))
            && roles("web").is_empty()
    );
    assert!(
        matches!(way("sso").base, Base::Sso { session: Some(name), region, .. } if name == "corp" && region == "eu-west-1")
    );
    assert!(
        matches!(way("old-sso").base, Base::Sso { session: None, start_url, .. } if start_url.contains("old"))
    );
    for (name, words) in [
        ("loop-a", "leads from loop-a to loop-b back"),
        ("both", "both source_profile and credential_source"),
        ("neither", "without source_profile or credential_source"),
        ("half", "lacks aws_secret_access_key"),
        ("gone", "\"nowhere\" does not exist"),
        ("no-session", "no section [sso-session none]"),
        ("short", "duration_seconds"),
        ("default", "lacks aws_access_key_id"),
    ] {
        let why = profiles.way(name).expect_err(name);
        assert!(why.contains(words), "{name}: {why}");
    }
    assert!(!profiles.describes_credentials("default") && profiles.describes_credentials("sso"));
    assert_eq!(profiles.region("default").as_deref(), Some("eu-west-1"));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_without_its_content() {
    let home = tempfile::tempdir().expect("a directory");
    for (config, keys, file) in [
        ("[profile a\ncanary", "", "config"),
        ("", "canary\n[x", "credentials"),
        ("[a]\n= canary", "", "config"),
    ] {
        let failure =
            read(home.path(), config, keys).await.err().unwrap_or_else(|| panic!("{config} {keys}"));
        assert_eq!(failure.id, Id::AwsSettings);
        assert!(failure.message.ends_with(&format!(".aws/{file}")), "{failure:?}");
        assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
    }
    let large = format!("[default]\nregion = {}", "x".repeat(1 << 20));
    assert!(read(home.path(), &large, "").await.is_err());
}
