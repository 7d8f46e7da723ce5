'use strict';
'require baseclass';
'require rpc';

var words = {
	answering: _('here'),
	silent: _('here, silent'),
	absent: _('elsewhere')
};

return baseclass.extend({
	callStatus: rpc.declare({ object: 'luci.edgevip', method: 'status', expect: { } }),
	callCheck: rpc.declare({ object: 'luci.edgevip', method: 'check', expect: { } }),

	// One row a VIP: its address, where it is, and why it is not here.
	rows: function(status) {
		return status.vips.map(function(it) {
			return [ it.vip, words[it.state] || it.state, it.why || '' ];
		});
	},

	// What this member is to the others, in a sentence.
	role: function(status) {
		var quorum = status.quorum;
		if (quorum)
			return quorum.leader
				? _('%s of %d members; %s leads').format(quorum.me, quorum.members.length, quorum.leader)
				: _('%s of %d members; nobody leads').format(quorum.me, quorum.members.length);
		return status.holder
			? _('%s; %s holds the Lease').format(status.node, status.holder)
			: _('%s; nobody holds the Lease').format(status.node);
	},

	card: function(answer) {
		if (!answer || !answer.running)
			return E('em', {}, _('edgevip does not run.'));
		var table = E('table', { 'class': 'table' }, [
			E('tr', { 'class': 'tr table-titles' }, [
				E('th', { 'class': 'th' }, _('VIP')),
				E('th', { 'class': 'th' }, _('Where')),
				E('th', { 'class': 'th' }, _('Why'))
			])
		]);
		cbi_update_table(table, this.rows(answer.status), E('em', {}, _('No VIP.')));
		return E('div', {}, [ E('p', {}, this.role(answer.status)), table ]);
	}
});
