() => {
    // A picture may be dropped anywhere, pasted, or chosen by a click on the empty stage. All three hand it to the
    // upload button, so that there is one way in, and the server checks it.
    const input = () => document.querySelector('#strip input[type=file]');
    const hand = (files) => {
        const file = [...(files || [])].find((file) => file.type.startsWith('image/')) || (files || [])[0];
        if (!file || !input()) return false;
        const transfer = new DataTransfer();
        transfer.items.add(file);
        input().files = transfer.files;
        input().dispatchEvent(new Event('change', { bubbles: true }));
        return true;
    };
    const dragging = (on) => document.body.classList.toggle('dragging', on);
    document.addEventListener('dragover', (event) => {
        if (![...event.dataTransfer.types].includes('Files')) return;
        event.preventDefault();
        dragging(true);
    });
    document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) dragging(false); });
    document.addEventListener('drop', (event) => {
        dragging(false);
        if (event.dataTransfer.files.length) { event.preventDefault(); hand(event.dataTransfer.files); }
    });
    document.addEventListener('paste', (event) => {
        if (event.clipboardData.files.length && hand(event.clipboardData.files)) event.preventDefault();
    });
    document.addEventListener('click', (event) => { if (event.target.closest('.stage.empty')) input()?.click(); });

    // Pointing at an object in the text, the legend or a chip makes the others step back on the picture.
    document.addEventListener('mouseover', (event) => {
        const pointed = event.target.closest?.('#conversation [data-object], #legend [data-object]')?.dataset.object;
        for (const layer of document.querySelectorAll('#stage [data-object]'))
            layer.classList.toggle('aside', pointed !== undefined && layer.dataset.object !== pointed);
    });

    // The newest words stay in view, unless the visitor has scrolled up to read.
    const log = document.querySelector('#conversation');
    if (log) {
        log.setAttribute('role', 'log');
        log.setAttribute('aria-live', 'polite');
        let follow = true;
        log.addEventListener('scroll', () => { follow = log.scrollHeight - log.scrollTop - log.clientHeight < 60; });
        new MutationObserver(() => { if (follow) log.scrollTop = log.scrollHeight; })
            .observe(log, { childList: true, subtree: true, characterData: true });
    }
}
