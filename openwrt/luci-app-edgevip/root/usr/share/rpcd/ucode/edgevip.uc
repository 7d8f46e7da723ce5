'use strict';

import { popen } from 'fs';

// Everything that a command prints, and how it ended. Nothing of the request gets into it.
function output(command) {
	let pipe = popen(command);
	if (!pipe)
		return { text: '', code: -1 };
	let text = pipe.read('all');
	return { text: text ?? '', code: pipe.close() };
}

return {
	'luci.edgevip': {
		status: {
			call: function() {
				let found = output('/usr/sbin/edgevip status --json 2>/dev/null');
				return found.code ? { running: false } : { running: true, status: json(found.text) };
			}
		},
		check: {
			call: function() {
				let found = output('/etc/init.d/edgevip faults 2>&1');
				return { faults: filter(split(found.text, '\n'), line => length(line) > 0) };
			}
		}
	}
};
