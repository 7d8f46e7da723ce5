'use strict';
'require view';
'require form';
'require tools.widgets as widgets';

return view.extend({
	render: function() {
		var m = new form.Map('edgevip', _('Virtual IPs'),
			_('Addresses that are each always on exactly one of several routers.'));
		var s, o;

		s = m.section(form.NamedSection, 'global', 'edgevip', _('This router'));
		o = s.option(form.Flag, 'enabled', _('Enabled'));
		o.rmempty = false;
		o = s.option(widgets.NetworkSelect, 'interface', _('Network'),
			_('The network whose device carries the VIPs.'));
		o.nocreate = true;
		o = s.option(form.Value, 'name', _('Name'),
			_('By which the others know this router; empty: its host name.'));
		o.datatype = 'hostname';
		o = s.option(form.Value, 'discover', _('Members to find'),
			_('So many routers with the same key find each other. Leave it empty and list the members below otherwise.'));
		o.datatype = 'range(2, 7)';
		o = s.option(form.ListValue, 'vip_raft_profile', _('Profile'),
			_('How quickly members suspect each other.'));
		o.value('', _('default'));
		o.value('fast', _('fast: wired, near'));
		o.value('calm', _('calm'));
		o.value('slow', _('slow: Wi-Fi'));

		s = m.section(form.GridSection, 'vip', _('VIPs'));
		s.addremove = true;
		o = s.option(form.Flag, 'enabled', _('Enabled'));
		o.default = '1';
		o.editable = true;
		o = s.option(form.DynamicList, 'address', _('Addresses'));
		o.datatype = 'or(ip4addr("nomask"), ip6addr("nomask"))';
		o.rmempty = false;

		s = m.section(form.GridSection, 'member', _('Members'),
			_('This router is one of them, by its name.'));
		s.addremove = true;
		o = s.option(form.Flag, 'enabled', _('Enabled'));
		o.default = '1';
		o.editable = true;
		o = s.option(form.Value, 'address', _('Address'));
		o.datatype = 'or(ip4addr("nomask"), ip6addr("nomask"))';
		o.rmempty = false;
		o = s.option(form.Value, 'port', _('Port'));
		o.datatype = 'port';
		o.placeholder = '10000';
		o = s.option(form.Flag, 'witness', _('Witness'), _('It votes and carries nothing.'));

		return m.render();
	}
});
