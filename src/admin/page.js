'use strict';
const offline = document.getElementById('offline');

async function refresh() {
  try {
    const answer = await fetch('/', { cache: 'no-store', signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(answer.status);
    // The style is here already, and under another nonce it would be refused with a complaint.
    const text = (await answer.text()).replace(/<style[^]*?<\/style>/, '');
    const fresh = new DOMParser().parseFromString(text, 'text/html');
    offline.hidden = true;
    // A person who is copying something should not lose it.
    if (getSelection().isCollapsed) {
      document.title = fresh.title;
      document.querySelector('main').replaceWith(fresh.querySelector('main'));
    }
  } catch {
    offline.querySelector('span').textContent = 'at ' + document.getElementById('now').textContent;
    offline.hidden = false;
  }
  setTimeout(refresh, document.hidden ? 10000 : 2000);
}

setTimeout(refresh, 2000);
