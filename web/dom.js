// @ts-check
// Elements. Text that comes from the daemon is never parsed as HTML.

/** @typedef {Node | string | number | null | undefined} Child what stands in an element; null and undefined do not */

/**
 * An element: attributes, `on...` listeners, children.
 * An attribute that is true has no value; one that is false, null or undefined is left out.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any>} attributes
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...shown(children));
  return node;
}

/**
 * A form whose submission goes to no page of its own.
 * @param {() => void} submitted
 * @param {...(Child | Child[])} children
 */
export function form(submitted, ...children) {
  const onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    submitted();
  };
  return h('form', { onsubmit }, ...children);
}

/**
 * An element of SVG with attributes, and text if there is some.
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, string | number>} attributes
 * @param {string} [text]
 * @returns {SVGElementTagNameMap[T]}
 */
export function s(tag, attributes, text) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  if (text !== undefined) node.textContent = text;
  return node;
}

/**
 * What of the children is shown.
 * @param {(Child | Child[])[]} children
 * @returns {(Node | string)[]}
 */
export function shown(children) {
  return children.flat().flatMap((child) => {
    if (child === null || child === undefined) return [];
    return [child instanceof Node ? child : String(child)];
  });
}
