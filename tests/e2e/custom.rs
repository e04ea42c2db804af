//! Custom resources as people use them: define, explain, apply, print, scale, delete; by every kubectl we test.

use super::harness::{Cluster, EVERY_KUBECTL};

const DEFINITION: &str = include_str!("../../examples/website.yaml");
const NAME: &str = "websites.example.coracle.dev";

fn site(spec: &str) -> String {
    format!("apiVersion: example.coracle.dev/v1\nkind: Website\nmetadata: {{name: home}}\nspec: {spec}\n")
}

#[test]
fn a_kind_of_ones_own_is_used_like_any_other() {
    let cluster = Cluster::without_node();
    for which in EVERY_KUBECTL {
        let k = |args: &[&str]| cluster.kubectl(which, args).expect_ok();
        let stdin = |args: &[&str], text: &str| cluster.kubectl_stdin(which, args, text);
        stdin(&["create", "-f", "-"], DEFINITION).expect_ok();
        k(&["wait", "crd", NAME, "--for=condition=Established", "--timeout=10s"]);
        assert!(k(&["api-resources", "--api-group=example.coracle.dev"]).contains("Website"));
        let explained = k(&["explain", "websites.spec"]);
        assert!(
            explained.contains("What the page says.") && explained.contains("image"),
            "{explained}"
        );

        let unknown = stdin(
            &["apply", "--validate=true", "-f", "-"],
            &site("{html: <p/>, colour: red}"),
        );
        let unknown = unknown.expect_error();
        assert!(unknown.contains("colour"), "{unknown}");
        let ruled = stdin(&["create", "-f", "-"], &site("{html: text}")).expect_error();
        assert!(
            ruled.contains("spec.html: Invalid value: \"string\": must be HTML"),
            "{ruled}"
        );
        let many = stdin(&["apply", "-f", "-"], &site("{html: <p/>, replicas: 9}")).expect_error();
        assert!(
            many.contains("more than five replicas need an image of their own"),
            "{many}"
        );

        stdin(&["apply", "-f", "-"], &site("{html: <p/>}")).expect_ok();
        let table = k(&["get", "web"]);
        assert!(table.starts_with("NAME   REPLICAS   READY   AGE"), "{table}");
        k(&["scale", "website", "home", "--replicas=3"]);
        assert_eq!(k(&["get", "website", "home", "-o", "jsonpath={.spec.replicas}"]), "3");
        let applied = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        stdin(&applied, &site("{html: <b/>}")).expect_ok();
        assert_eq!(k(&["get", "website", "home", "-o", "jsonpath={.spec.html}"]), "<b/>");
        assert!(k(&["describe", "website", "home"]).contains("example.coracle.dev/v1"));
        k(&["delete", "crd", NAME, "--timeout=30s"]);
        let gone = cluster.kubectl(which, &["get", "websites"]).expect_error();
        // kubectl may still know the kind, and is then told by the server.
        assert!(
            gone.contains("the server doesn't have a resource type")
                || gone.contains("the server could not find the requested resource"),
            "{gone}"
        );
    }
}

#[test]
fn a_definition_with_a_mistake_is_told_where_it_is() {
    let cluster = Cluster::without_node();
    for which in EVERY_KUBECTL {
        let wrong = DEFINITION.replace("self.startsWith('<')", "self.startWith('<')");
        let refused = cluster
            .kubectl_stdin(which, &["create", "-f", "-"], &wrong)
            .expect_error();
        assert!(
            refused.contains("x-kubernetes-validations[0].rule: Invalid value")
                && refused.contains("undeclared reference to 'startWith'"),
            "{refused}"
        );
    }
}
