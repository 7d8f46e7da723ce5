use crate::config::Resolved;
use crate::config::build::tests::resolve_all;

#[test]
fn services_are_understood() {
    let env = "vip_arp=true;svc_enable=true;svc_leasename=a/b;svc_namespace=shop;svc_election=true;\
               vip_servicesinterface=auto;lb_class_only=true;lb_class_name=example.com/x;\
               disable_service_updates=true;KUBEVIP_CONFIG_MAP=pools;enable_endpoints=true";
    let Resolved { config, warnings, infos, .. } = resolve_all(env, "", &[]).unwrap();
    let services = config.services.unwrap();
    let expected = crate::config::ServiceSettings {
        lease: ("a".into(), "b".into()),
        elects_each: true,
        elects_some: false,
        namespace: Some("shop".into()),
        link: crate::config::LinkSetting::Auto,
        class_only: true,
        class_name: "example.com/x".into(),
        class_legacy: true,
        writes: false,
        gateway: false,
        guards: false,
        pools: ("kube-system".into(), "pools".into()),
        dhcp_attempts: 3,
        dhcp_mac: crate::config::DhcpMac::Own,
    };
    assert_eq!(services, expected); // It may stand beside the process of the control plane.
    assert_eq!((config.vips.len(), config.instance.as_deref()), (0, Some("services")));
    assert_eq!(warnings, Vec::<String>::new());
    assert!(infos[0].contains("enable_endpoints (EndpointSlices say the same)"), "{infos:?}");
    let both = "vip_arp=true;svc_enable=true;cp_enable=true;address=10.0.0.1";
    let config = resolve_all(both, "", &[]).unwrap().config;
    let found = (config.vips.len(), config.instance, config.services.is_some());
    assert_eq!(found, (1, None, true));
}

#[test]
fn a_build_without_the_gateway_says_so_where_it_is_asked_for() {
    for name in ["enable_upnp", "enableUPNP"] {
        let env = format!("vip_arp=true;svc_enable=true;{name}=true");
        let found = match resolve_all(&env, "", &[]) {
            Ok(it) => it.config.services.is_some_and(|it| it.gateway),
            Err(faults) => !faults.to_string().contains("feature upnp"),
        };
        assert_eq!(found, cfg!(feature = "upnp"), "{name}");
    }
}
