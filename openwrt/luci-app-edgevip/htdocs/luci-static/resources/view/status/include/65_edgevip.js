'use strict';
'require baseclass';
'require edgevip';

return baseclass.extend({
	title: _('Virtual IPs'),

	load: function() {
		return edgevip.callStatus().catch(function() { return null; });
	},

	// Without a word where it is not in use.
	render: function(answer) {
		return answer && answer.running ? edgevip.card(answer) : null;
	}
});
