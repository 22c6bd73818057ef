// The cart lives in the browser, so that every page is the same for everybody and can be cached.
const read = () => JSON.parse(localStorage.getItem("cart") || "{}");
const write = (cart) => { localStorage.setItem("cart", JSON.stringify(cart)); count(); };
const money = (cents) => (cents / 100).toFixed(2);
const by = (id) => document.getElementById(id);

function count() {
  const pieces = Object.values(read()).reduce((sum, each) => sum + each, 0);
  by("count").textContent = pieces ? `(${pieces})` : "";
}

// What the edge said about this very page: the browser still has the answer's header fields.
async function whoServed() {
  const headers = (await fetch(location.href)).headers;
  const edge = headers.get("x-edge-location");
  if (!edge) { return; }
  const age = headers.get("age");
  by("edge").innerHTML = "Edge <b></b>";
  by("edge").querySelector("b").textContent =
    `${edge} · ${headers.get("x-cache") || "?"}${age ? ` · ${age} s old` : ""}`;
}

function add(event) {
  const cart = read();
  const id = event.target.dataset.product;
  cart[id] = (cart[id] || 0) + 1;
  write(cart);
  event.target.textContent = "In your cart";
}

async function showCart() {
  const cart = read();
  const table = by("lines");
  table.replaceChildren();
  let total = 0;
  const products = (await (await fetch("/api/products")).json()).products;
  for (const product of products.filter((each) => cart[each.id])) {
    const row = table.insertRow();
    row.insertCell().textContent = product.name;
    row.insertCell().textContent = cart[product.id];
    row.insertCell().textContent = money(product.price * cart[product.id]);
    total += product.price * cart[product.id];
  }
  by("total").textContent = money(total);
  by("order").disabled = total === 0;
}

async function order() {
  by("order").disabled = true;
  const items = Object.entries(read()).map(([product, quantity]) => ({ product, quantity }));
  const answer = await fetch("/api/orders", {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ items }),
  });
  const body = await answer.json();
  by("said").hidden = false;
  by("said").textContent = answer.ok
    ? `Thank you. Order ${body.id} was taken by the origin in ${answer.headers.get("x-origin-region")}.`
    : `${body.error}${body.hint ? `: ${body.hint}` : ""}`;
  if (answer.ok) { write({}); }
  await showCart();
}

count();
whoServed();
for (const button of document.querySelectorAll("button[data-product]")) { button.addEventListener("click", add); }
if (by("lines")) { showCart(); by("order").addEventListener("click", order); }
