// Starts `metanorm lsp` and shows the picture that it draws. All knowledge of specs is in the server.

const { readFile } = require("node:fs/promises");
const { fileURLToPath } = require("node:url");
const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

const SHOW_POOLS = "metanorm.showPools";

let client;

function serverOptions() {
  const [command, ...args] = vscode.workspace.getConfiguration("metanorm").get("command");
  return { command, args };
}

// The server draws into a file. The picture is shown beside the spec, without scripts.
async function showPicture(uri, norm) {
  const panel = vscode.window.createWebviewPanel("metanorm.pools", norm, vscode.ViewColumn.Beside, {
    enableScripts: false,
    localResourceRoots: [],
  });
  const svg = await readFile(fileURLToPath(uri), "utf8");
  const image = `data:image/svg+xml;base64,${Buffer.from(svg).toString("base64")}`;
  panel.webview.html =
    `<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; ` +
    `style-src 'unsafe-inline'"><body style="background: white"><img alt="" style="max-width: 100%" src="${image}">`;
}

const middleware = {
  async executeCommand(command, args, next) {
    const answer = await next(command, args);
    if (command === SHOW_POOLS && typeof answer === "string") {
      await showPicture(answer, args[1]);
    }
    return answer;
  },
  window: {
    // It is shown above, and need not open in a browser, too.
    showDocument: async (params, next) => (params.uri.endsWith(".svg") ? { success: true } : next(params)),
  },
};

async function start() {
  const options = {
    documentSelector: [{ language: "norm" }],
    synchronize: { fileEvents: vscode.workspace.createFileSystemWatcher("**/*.norm") },
    middleware,
  };
  client = new LanguageClient("metanorm", "metanorm", serverOptions(), options);
  try {
    await client.start();
  } catch (error) {
    const install = "Install it with: pip install 'metanorm[lsp]', or set metanorm.command to where it is.";
    vscode.window.showErrorMessage(`The language server did not start: ${error.message ?? error}. ${install}`);
  }
}

async function stop() {
  if (client !== undefined && client.isRunning()) {
    await client.stop();
  }
}

async function restart() {
  await stop();
  await start();
}

async function activate(context) {
  context.subscriptions.push(vscode.commands.registerCommand("metanorm.restart", restart));
  context.subscriptions.push(
    vscode.workspace.onDidChangeConfiguration((event) => event.affectsConfiguration("metanorm.command") && restart()),
  );
  await start();
}

module.exports = { activate, deactivate: stop };
