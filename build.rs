fn main() {
    println!("cargo:rerun-if-changed=grammar/df.lalrpop");
    println!("cargo:rerun-if-changed=build.rs");
    let out = std::env::var("OUT_DIR").unwrap_or_default();
    let built = lalrpop::Configuration::new().set_in_dir("grammar").set_out_dir(out).process();
    if let Err(error) = built {
        println!("cargo:warning=the grammar was not accepted: {error}");
        std::process::exit(1);
    }
}
