fn main() {
    println!("cargo:rerun-if-changed=grammar/df.lalrpop");
    println!("cargo:rerun-if-changed=build.rs");
    link();
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    let built = lalrpop::Configuration::new().set_in_dir("grammar").set_out_dir(out).process();
    if let Err(error) = built {
        println!("cargo:warning=the grammar was not accepted: {error}");
        std::process::exit(1);
    }
}

/// Links the program at a fixed address on Linux with glibc. So nothing is relocated at the start,
/// and the relocation table is not needed. That saves half a megabyte of the file and a megabyte of
/// memory.
fn link() {
    let is = |name, value| std::env::var(name).is_ok_and(|set| set == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo:rustc-link-arg-bin=durable=-no-pie");
    }
}
