'use strict';
const offline = document.getElementById('offline');

async function refresh() {
  try {
    const answer = await fetch('/', { cache: 'no-store', signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
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
