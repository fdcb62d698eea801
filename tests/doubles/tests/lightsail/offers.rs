//! What the Lightsail's regions offer, page by page.

use crate::client::{at_once, good, refused, with};
use outrigger_doubles::lightsail::{Client, Options};
use serde_json::{Value, json};

/// All pages, and how many there were.
fn all(client: &Client, operation: &str, member: &str, wish: &Value) -> (usize, Vec<Value>) {
    let (mut pages, mut rows, mut wish) = (0, Vec::new(), wish.clone());
    loop {
        let page = good(client.call(operation, &wish));
        pages += 1;
        rows.extend(page[member].as_array().cloned().unwrap_or_default());
        if page["nextPageToken"].is_null() {
            return (pages, rows);
        }
        wish["pageToken"] = page["nextPageToken"].clone();
    }
}

#[test]
fn regions_tell_their_zones_when_asked() {
    let (_lightsail, client) = at_once();
    let plain = good(client.call("GetRegions", &json!({})));
    assert_eq!(plain["regions"][0]["availabilityZones"], json!([]));
    let whole = good(client.call("GetRegions", &json!({"includeAvailabilityZones": true})));
    assert_eq!(
        whole["regions"][0]["availabilityZones"],
        json!([
            {"zoneName": "eu-central-1a", "state": "unavailable"},
            {"zoneName": "eu-central-1b", "state": "available"},
            {"zoneName": "eu-central-1c", "state": "available"},
        ])
    );
    assert_eq!(whole["regions"][1]["name"], "us-east-1");
}

#[test]
fn bundles_and_blueprints_come_in_pages() {
    let (_lightsail, client) = with(Options { page: 3, ..Options::default() });
    let (pages, bundles) = all(&client, "GetBundles", "bundles", &json!({}));
    let ids: Vec<&str> = bundles.iter().filter_map(|bundle| bundle["bundleId"].as_str()).collect();
    assert_eq!(pages, 3);
    assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
    assert!(bundles.iter().all(|bundle| bundle["isActive"] == true), "{ids:?}");
    let micro = bundles.iter().find(|bundle| bundle["bundleId"] == "micro_3_0").expect("it is sold");
    assert_eq!((&micro["price"], &micro["ramSizeInGb"]), (&json!(7.0), &json!(1.0)));
    let (_, more) = all(&client, "GetBundles", "bundles", &json!({"includeInactive": true}));
    assert!(more.len() > bundles.len());
    let (_, research) = all(&client, "GetBundles", "bundles", &json!({"appCategory": "LfR"}));
    assert!(research.iter().all(|bundle| bundle["supportedAppCategories"] == json!(["LfR"])));
    let (pages, blueprints) = all(&client, "GetBlueprints", "blueprints", &json!({}));
    assert!(pages > 1 && blueprints.iter().any(|blueprint| blueprint["blueprintId"] == "ubuntu_24_04"));
    assert!(blueprints.iter().all(|blueprint| blueprint["isActive"] == true), "{blueprints:?}");
    let (_, more) = all(&client, "GetBlueprints", "blueprints", &json!({"includeInactive": true}));
    assert!(more.len() > blueprints.len());
    assert!(blueprints.iter().any(|blueprint| blueprint["type"] == "app"));
    assert!(blueprints.iter().any(|blueprint| blueprint["platform"] == "WINDOWS"));
}

#[test]
fn a_page_token_is_for_its_own_list() {
    let (_lightsail, client) = at_once();
    let token = good(client.call("GetBundles", &json!({})))["nextPageToken"].clone();
    good(client.call("GetBundles", &json!({"pageToken": token})));
    for (operation, token) in [("GetBlueprints", token), ("GetBundles", json!("4"))] {
        assert_eq!(refused(client.call(operation, &json!({"pageToken": token}))).0, "InvalidInputException");
    }
}
