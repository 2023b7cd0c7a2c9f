// A pretence of VS Code, in which the extension is run: `node vscode.js EXTENSION-FOLDER DURABLE`.

const assert = require("assert");
const Module = require("module");
const path = require("path");
const [folder, durable] = process.argv.slice(2);

class Range {
  constructor(...at) {
    const [a, b, c, d] = at;
    this.start = { line: a, character: b };
    this.end = { line: c, character: d };
  }
}
const record = (name, ...fields) =>
  ({ [name]: class { constructor(...values) { fields.forEach((field, at) => (this[field] = values[at])); } } })[name];

const providers = {};
const handlers = {};
const shown = new Map();
const errors = [];
const register = (name) => (selector, provider) => ((providers[name] = provider), { dispose() {} });
const on = (name) => (handler) => ((handlers[name] = handler), { dispose() {} });
const uri = (text) => ({ scheme: text.split(":")[0], toString: () => text });

const vscode = {
  Range,
  Uri: { parse: uri },
  TextEdit: record("TextEdit", "range", "newText"),
  Location: record("Location", "uri", "range"),
  Diagnostic: record("Diagnostic", "range", "message", "severity"),
  DiagnosticRelatedInformation: record("DiagnosticRelatedInformation", "location", "message"),
  Hover: record("Hover", "contents", "range"),
  MarkdownString: record("MarkdownString", "value"),
  DocumentSymbol: record("DocumentSymbol", "name", "detail", "kind", "range", "selectionRange"),
  CompletionItem: record("CompletionItem", "label", "kind"),
  SignatureHelp: record("SignatureHelp"),
  SignatureInformation: record("SignatureInformation", "label"),
  CodeAction: record("CodeAction", "title", "kind"),
  CodeActionKind: { QuickFix: "quickfix" },
  SemanticTokens: record("SemanticTokens", "data"),
  SemanticTokensLegend: record("SemanticTokensLegend", "types", "modifiers"),
  WorkspaceEdit: class {
    constructor() { this.all = new Map(); }
    set(where, edits) { this.all.set(where.toString(), edits); }
  },
  DebugAdapterExecutable: record("DebugAdapterExecutable", "command", "args"),
  debug: { registerDebugAdapterDescriptorFactory: (type, factory) => ((providers[type] = factory), { dispose() {} }) },
  window: { showErrorMessage: (text) => errors.push(text) },
  workspace: {
    textDocuments: [],
    workspaceFolders: [],
    getConfiguration: () => ({ get: () => durable }),
    onDidOpenTextDocument: on("open"),
    onDidChangeTextDocument: on("change"),
    onDidCloseTextDocument: on("close"),
  },
  languages: {
    createDiagnosticCollection: () => ({ set: (where, all) => shown.set(where.toString(), all), dispose() {} }),
    registerHoverProvider: register("hover"),
    registerDefinitionProvider: register("definition"),
    registerReferenceProvider: register("references"),
    registerRenameProvider: register("rename"),
    registerDocumentSymbolProvider: register("symbols"),
    registerDocumentFormattingEditProvider: register("formatting"),
    registerCompletionItemProvider: register("completion"),
    registerSignatureHelpProvider: register("signature"),
    registerCodeActionsProvider: register("actions"),
    registerDocumentSemanticTokensProvider: register("tokens"),
  },
};

const load = Module._load;
Module._load = (name, ...rest) => (name === "vscode" ? vscode : load(name, ...rest));

const document = {
  uri: uri("file:///work/a.df"),
  languageId: "durable",
  version: 1,
  text: "fn double(n) =>   n * 2\nlet x = dubble(1)\nprint(double(2))\n",
  getText() { return this.text; },
};

async function until(what) {
  for (let n = 0; n < 500 && !what(); n++) await new Promise((done) => setTimeout(done, 10));
  assert(what(), "nothing came");
}

(async () => {
  const manifest = require(path.join(folder, "package.json"));
  const extension = require(path.join(folder, manifest.main));
  vscode.workspace.textDocuments.push(document);
  await extension.activate({ subscriptions: [] });
  await until(() => shown.has("file:///work/a.df"));
  const [mistake] = shown.get("file:///work/a.df").filter((d) => d.severity === 0);
  assert(mistake.message.includes("unknown name `dubble`"), mistake.message);

  const [debug] = manifest.contributes.debuggers;
  assert.strictEqual(debug.initialConfigurations[0].name, "Debug an instance");
  const adapter = providers[debug.type].createDebugAdapterDescriptor();
  assert.deepStrictEqual([adapter.command, adapter.args], [durable, ["dap"]]);

  const here = (line, character) => ({ line, character });
  const hover = await providers.hover.provideHover(document, here(2, 8));
  assert(hover.contents.value.includes("fn double(n)"));
  const definition = await providers.definition.provideDefinition(document, here(2, 8));
  assert.strictEqual(definition.range.start.line, 0);
  assert.strictEqual((await providers.references.provideReferences(document, here(2, 8))).length, 2);
  const renamed = await providers.rename.provideRenameEdits(document, here(2, 8), "twice");
  assert.strictEqual(renamed.all.get("file:///work/a.df").length, 2);
  await assert.rejects(providers.rename.provideRenameEdits(document, here(2, 1), "show"));
  const [symbol] = await providers.symbols.provideDocumentSymbols(document);
  assert.strictEqual(symbol.name, "double");
  const [action] = await providers.actions.provideCodeActions(document, mistake.range);
  assert.strictEqual(action.title, "Replace with `double`");
  const completions = await providers.completion.provideCompletionItems(document, here(2, 3));
  assert(completions.some((item) => item.label === "print"));
  const help = await providers.signature.provideSignatureHelp(document, here(2, 13));
  assert(help.signatures[0].label.includes("double(n)"));
  assert((await providers.tokens.provideDocumentSemanticTokens(document)).data.length > 10);

  document.text = "fn double(n) =>   n * 2\nprint(double(2))\n";
  handlers.change({ document });
  await until(() => shown.get("file:///work/a.df").length === 0);
  const [edit] = await providers.formatting.provideDocumentFormattingEdits(document);
  assert(edit.newText.startsWith("fn double(n) => n * 2\n"));
  handlers.close(document);
  await extension.deactivate();
  assert.deepStrictEqual(errors, []);
  console.log("all is well");
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
