// Connects VS Code to `durable lsp` and `durable dap`. It needs no other package: copy the folder and restart.

const vscode = require("vscode");
const { spawn } = require("child_process");

const selector = { language: "durable", scheme: "file" };

/** The language server, over its standard input and output. */
class Server {
  constructor(command, args, said) {
    this.said = said;
    this.asked = 0;
    this.waiting = new Map();
    this.bytes = Buffer.alloc(0);
    this.process = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.process.stdout.on("data", (data) => this.take(data));
    this.process.on("error", (error) => this.end(error));
    this.process.on("exit", () => this.end(new Error("the server has ended")));
    this.process.stdin.on("error", () => {});
  }

  end(error) {
    if (this.ended) return;
    this.ended = error;
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
    this.said({ ended: error });
  }

  take(data) {
    this.bytes = Buffer.concat([this.bytes, data]);
    for (;;) {
      const head = this.bytes.indexOf("\r\n\r\n");
      if (head < 0) return;
      const length = /content-length: (\d+)/i.exec(this.bytes.toString("ascii", 0, head));
      const end = head + 4 + Number(length ? length[1] : 0);
      if (this.bytes.length < end) return;
      const message = JSON.parse(this.bytes.toString("utf8", head + 4, end));
      this.bytes = this.bytes.subarray(end);
      const waits = message.id !== undefined && this.waiting.get(message.id);
      if (!waits) {
        this.said(message);
        continue;
      }
      this.waiting.delete(message.id);
      if (message.error) waits.reject(new Error(message.error.message));
      else waits.resolve(message.result);
    }
  }

  send(message) {
    if (this.ended) return;
    const text = JSON.stringify({ jsonrpc: "2.0", ...message });
    this.process.stdin.write(`Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
  }

  tell(method, params) {
    this.send({ method, params });
  }

  ask(method, params) {
    const id = ++this.asked;
    return new Promise((resolve, reject) => {
      if (this.ended) return reject(this.ended);
      this.waiting.set(id, { resolve, reject });
      this.send({ id, method, params });
    });
  }
}

// What the protocol says, in the editor's words.

const range = (r) => new vscode.Range(r.start.line, r.start.character, r.end.line, r.end.character);
const edit = (e) => new vscode.TextEdit(range(e.range), e.newText);
const location = (l) => new vscode.Location(vscode.Uri.parse(l.uri), range(l.range));
const plain = (p) => ({ line: p.line, character: p.character });

function diagnostic(d) {
  const out = new vscode.Diagnostic(range(d.range), d.message, d.severity - 1);
  out.source = d.source;
  out.relatedInformation = (d.relatedInformation || []).map(
    (r) => new vscode.DiagnosticRelatedInformation(location(r.location), r.message)
  );
  return out;
}

function changes(all) {
  const out = new vscode.WorkspaceEdit();
  for (const [uri, edits] of Object.entries(all.changes)) out.set(vscode.Uri.parse(uri), edits.map(edit));
  return out;
}

let server;

async function activate(context) {
  const command = vscode.workspace.getConfiguration("durable").get("path") || "durable";
  context.subscriptions.push(
    vscode.debug.registerDebugAdapterDescriptorFactory("durable", {
      createDebugAdapterDescriptor: () => new vscode.DebugAdapterExecutable(command, ["dap"]),
    })
  );
  const collection = vscode.languages.createDiagnosticCollection("durable");
  context.subscriptions.push(collection);
  server = new Server(command, ["lsp"], (message) => {
    if (message.ended) {
      if (!server || !server.leaving) {
        vscode.window.showErrorMessage(`durable: ${message.ended.message}. Is "${command}" installed? The setting durable.path says where.`);
      }
    } else if (message.method === "textDocument/publishDiagnostics") {
      collection.set(vscode.Uri.parse(message.params.uri), message.params.diagnostics.map(diagnostic));
    }
  });
  const folders = vscode.workspace.workspaceFolders || [];
  const rootUri = folders.length > 0 ? folders[0].uri.toString() : null;
  let can;
  try {
    can = (await server.ask("initialize", { processId: process.pid, rootUri, capabilities: {} })).capabilities;
  } catch {
    return;
  }
  server.tell("initialized", {});

  const ours = (document) => document.languageId === "durable" && document.uri.scheme === "file";
  const named = (document) => ({ uri: document.uri.toString() });
  const opened = (document) => {
    if (!ours(document)) return;
    const textDocument = { ...named(document), languageId: "durable", version: document.version, text: document.getText() };
    server.tell("textDocument/didOpen", { textDocument });
  };
  const watch = [
    vscode.workspace.onDidOpenTextDocument(opened),
    vscode.workspace.onDidChangeTextDocument(({ document }) => {
      if (!ours(document)) return;
      const textDocument = { ...named(document), version: document.version };
      server.tell("textDocument/didChange", { textDocument, contentChanges: [{ text: document.getText() }] });
    }),
    vscode.workspace.onDidCloseTextDocument((document) => {
      if (ours(document)) server.tell("textDocument/didClose", { textDocument: named(document) });
    }),
  ];
  vscode.workspace.textDocuments.forEach(opened);

  const at = (method, document, position, more = {}) =>
    server.ask(`textDocument/${method}`, { textDocument: named(document), position: plain(position), ...more });
  const l = vscode.languages;
  const legend = can.semanticTokensProvider.legend;
  context.subscriptions.push(
    ...watch,
    l.registerHoverProvider(selector, {
      async provideHover(document, position) {
        const found = await at("hover", document, position);
        return found && new vscode.Hover(new vscode.MarkdownString(found.contents.value), range(found.range));
      },
    }),
    l.registerDefinitionProvider(selector, {
      async provideDefinition(document, position) {
        const found = await at("definition", document, position);
        return Array.isArray(found) ? found.map(location) : found && location(found);
      },
    }),
    l.registerReferenceProvider(selector, {
      async provideReferences(document, position) {
        return (await at("references", document, position)).map(location);
      },
    }),
    l.registerRenameProvider(selector, {
      async provideRenameEdits(document, position, newName) {
        return changes(await at("rename", document, position, { newName }));
      },
    }),
    l.registerDocumentSymbolProvider(selector, {
      async provideDocumentSymbols(document) {
        const found = await server.ask("textDocument/documentSymbol", { textDocument: named(document) });
        return found.map((s) => new vscode.DocumentSymbol(s.name, "", s.kind - 1, range(s.range), range(s.selectionRange)));
      },
    }),
    l.registerDocumentFormattingEditProvider(selector, {
      async provideDocumentFormattingEdits(document) {
        return (await server.ask("textDocument/formatting", { textDocument: named(document), options: {} })).map(edit);
      },
    }),
    l.registerCompletionItemProvider(
      selector,
      {
        async provideCompletionItems(document, position) {
          return (await at("completion", document, position)).map((item) => {
            const out = new vscode.CompletionItem(item.label, item.kind - 1);
            out.detail = item.detail;
            out.documentation = item.documentation;
            return out;
          });
        },
      },
      ...can.completionProvider.triggerCharacters
    ),
    l.registerSignatureHelpProvider(
      selector,
      {
        async provideSignatureHelp(document, position) {
          const found = await at("signatureHelp", document, position);
          if (!found) return undefined;
          const out = new vscode.SignatureHelp();
          out.signatures = found.signatures.map((s) => new vscode.SignatureInformation(s.label));
          out.activeSignature = found.activeSignature;
          out.activeParameter = found.activeParameter;
          return out;
        },
      },
      ...can.signatureHelpProvider.triggerCharacters
    ),
    l.registerCodeActionsProvider(selector, {
      async provideCodeActions(document, where) {
        const asked = { textDocument: named(document), range: { start: plain(where.start), end: plain(where.end) }, context: { diagnostics: [] } };
        return (await server.ask("textDocument/codeAction", asked)).map((action) => {
          const out = new vscode.CodeAction(action.title, vscode.CodeActionKind.QuickFix);
          out.edit = changes(action.edit);
          out.diagnostics = action.diagnostics.map(diagnostic);
          return out;
        });
      },
    }),
    l.registerDocumentSemanticTokensProvider(
      selector,
      {
        async provideDocumentSemanticTokens(document) {
          const found = await server.ask("textDocument/semanticTokens/full", { textDocument: named(document) });
          return new vscode.SemanticTokens(new Uint32Array(found.data));
        },
      },
      new vscode.SemanticTokensLegend(legend.tokenTypes, legend.tokenModifiers)
    )
  );
}

async function deactivate() {
  if (!server) return;
  server.leaving = true;
  await server.ask("shutdown", null).catch(() => {});
  server.tell("exit", null);
}

module.exports = { activate, deactivate };
