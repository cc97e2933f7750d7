package sim

import "slices"

// What is checked of views and leases, and who of the members is concerned by what else is.

// members are those of the view that was active last.
func (k *checker) members() []int {
	if k.r.c.Lease == 0 {
		return k.all
	}
	return k.r.coord.active.Members
}

// proposed are the members of the view of an epoch, active or not.
func (k *checker) proposed(epoch uint32) []int {
	if k.r.c.Lease == 0 {
		return k.all
	}
	return k.r.coord.views[epoch]
}

// mirrors is how many members besides P hold a record before it is committed, in a view of so many.
func mirrors(c *Cluster, members int) int {
	switch {
	case c.Protocol == "chain" || c.Policy == "all":
		return members - 1
	case c.Policy == "metadata":
		return 0
	}
	return min(c.Mirrors, members-1)
}

// holder says whether a member holds the bytes of what is committed: it is among the first of the view, and in E of the
// record.
func (k *checker) holder(id int) bool {
	view := k.members()
	at := slices.Index(view, id)
	return at >= 0 && at <= mirrors(k.r.c, len(view))
}

// copies: what is committed in a view is at as many members as the policy says, and E of the record names them.
func (k *checker) copies(s uint64) {
	c := k.r.c
	if c.Lease == 0 {
		return
	}
	rec := &k.r.coord.active
	if rec.Epoch != k.epoch {
		k.r.fail("Active", "S is %d in epoch %d, but the newest view that the coordinator knows as active is that of epoch %d", s, k.epoch, rec.Epoch)
		return
	}
	inSync := func(id int) bool {
		for _, m := range k.r.coord.record.InSync {
			if m.ID == id {
				return true
			}
		}
		return false
	}
	for i, id := range rec.Members {
		if (i <= mirrors(c, len(rec.Members)) && c.Protocol != "chain" || c.Policy == "metadata") && !inSync(id) {
			k.r.fail("InSync", "S is %d in epoch %d, which needs %s, but E of the record is %v", s, k.epoch, memberName(id), k.r.coord.record.InSync)
			return
		}
	}
	want := 1 // that have the bytes
	switch c.Policy {
	case "mirror":
		want = min(c.Mirrors, replicaLimit) + 1
	case "all":
		want = c.Members
	}
	if have := mirrors(c, len(rec.Members)) + 1; s > k.begun && have < want {
		k.r.fail("StableIsHeld", "S has gone from %d to %d in a view in which %d members hold what is committed; the policy wants %d", k.begun, s, have, want)
	}
}

// leases: whatever lease a member holds, its giver has promised at least as much; and what P gave ends no later than the
// promise of any other backup to P, so that waiting out that one is enough.
func (k *checker) leases(m *member) {
	if k.r.c.Lease == 0 || m.eng == nil {
		return
	}
	for _, o := range k.r.members {
		if o != m && o.eng != nil && (m.id == 0 || o.id == 0) {
			k.promised(m, o)
			k.promised(o, m)
		}
	}
}

const rounding = 10 // ns, of clocks that are read in whole ones

func (k *checker) promised(holder, giver *member) {
	held, _ := holder.eng.Lease(giver.id)
	if held == 0 {
		return
	}
	end := holder.clock.global(held)
	if end <= k.r.now {
		return // it is over
	}
	if _, promise := giver.eng.Lease(holder.id); giver.clock.global(promise)+rounding < end {
		k.r.fail("LeaseIsPromised", "%s holds a lease of %s for %d ns more, but that one has promised it for %d", holder.name, giver.name, end-k.r.now, giver.clock.global(promise)-k.r.now)
		return
	}
	if giver.id != 0 {
		return
	}
	for _, id := range k.members() {
		if o := k.r.members[id]; o != giver && o.eng != nil {
			if _, promise := o.eng.Lease(0); o.clock.global(promise)+rounding < end {
				k.r.fail("LeaseIsDerived", "%s holds a lease of P for %d ns more, but %s has promised P only %d", holder.name, end-k.r.now, o.name, o.clock.global(promise)-k.r.now)
			}
		}
	}
}

// leasedAtP: what P has only read leaves while P holds the leases of all backups.
func (k *checker) leasedAtP(o *op) {
	if o.on.id == 0 && k.r.c.Protocol != "chain" && o.form < waits && !o.changes() {
		if _, leased := o.on.eng.Serves(); !leased {
			k.r.fail("Leased", "%s is answered by P, which does not hold the leases of all backups", o)
		}
	}
}
