'use strict';
'require view';
'require poll';
'require dom';
'require edgevip';

return view.extend({
	load: function() {
		return Promise.all([ edgevip.callStatus(), edgevip.callCheck() ]);
	},

	render: function(found) {
		var card = E('div', { 'class': 'cbi-section' }, edgevip.card(found[0]));
		var faults = (found[1].faults || []).map(function(it) {
			return E('p', { 'class': 'alert-message warning' }, it);
		});
		poll.add(function() {
			return edgevip.callStatus().then(function(answer) {
				dom.content(card, edgevip.card(answer));
			});
		}, 3);
		return E('div', { 'class': 'cbi-map' }, [ E('h2', {}, _('Virtual IPs')) ].concat(faults, [ card ]));
	},

	handleSaveApply: null,
	handleSave: null,
	handleReset: null
});
