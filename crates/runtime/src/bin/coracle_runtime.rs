//! The runtime's two subcommands by themselves, for tests and for use as an OCI runtime: `shim` and `oci`.

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|command| command.to_str()) {
        Some("shim") => coracle_runtime::shim_main(arguments),
        Some("oci") => std::process::exit(coracle_runtime::oci_main(arguments)),
        _ => {
            eprintln!("usage: coracle-runtime shim DIRECTORY | oci ...");
            std::process::exit(2);
        }
    }
}
