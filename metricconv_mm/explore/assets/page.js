// What only the browser can do: where a click was, arrow keys, names that screen readers say, and that the server is gone.
(function () {
    const plot = () => document.querySelector('#picture-graph .js-plotly-plot');

    // a point of the picture as shares of its width and height
    function share(x, y) {
        const [columns, rows] = plot().layout.meta.size;
        const within = value => Math.min(Math.max(value, 0), 1);
        return [within((x + 0.5) / columns), within((y + 0.5) / rows)];
    }

    window.dash_clientside = window.dash_clientside || {};
    window.dash_clientside.explore = {
        // clicks are forgotten, so that the same one can be made again
        choose(picture, close) {
            const click = picture || close;
            if (!click || !plot()) return [dash_clientside.no_update, dash_clientside.no_update, dash_clientside.no_update];
            const { x, y } = click.points[0];
            return [share(x, y), null, null];
        },
    };

    const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    document.addEventListener('keydown', event => {
        if (!ARROWS[event.key] || event.target.id !== 'picture-graph') return;
        const shown = plot(), centre = shown?.data.find(trace => trace.name === 'centre');
        if (!centre) return;
        event.preventDefault();
        const far = event.shiftKey ? 10 : 1, [right, down] = ARROWS[event.key], [width, height] = shown.layout.meta.pitch;
        const x = Array.from(centre.x)[0] + far * right * width, y = Array.from(centre.y)[0] + far * down * height;
        dash_clientside.set_props('pixel', { data: share(x, y) });
    });

    // Dash takes no aria attributes for its sliders and menus
    function name() {
        for (const row of document.querySelectorAll('.row')) {
            const label = row.querySelector('label')?.innerText ?? '';
            for (const control of row.querySelectorAll('[role=slider], input')) if (!control.ariaLabel) control.ariaLabel = label;
            const menu = row.querySelector('button');
            if (menu) menu.ariaLabel = `${label}: ${menu.innerText}`;
        }
        const graph = document.querySelector('#picture-graph'), file = document.querySelector('#upload input');
        if (graph && !graph.hasAttribute('tabindex')) {
            graph.tabIndex = 0;
            graph.setAttribute('role', 'application');
            graph.ariaLabel = 'The picture: arrow keys move the chosen pixel, with Shift by ten';
        }
        if (file) file.ariaLabel = 'Choose a picture';
    }
    new MutationObserver(name).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

    // Dash writes this to the console alone
    const fetched = window.fetch;
    window.fetch = async (...request) => {
        try {
            return await fetched(...request);
        } catch (error) {
            const message = document.querySelector('#message');
            if (message && error.name === 'TypeError') {
                dash_clientside.set_props('message', { children: 'The page’s program does not answer: start it again, then reload the page.' });
            }
            throw error;
        }
    };
})();
