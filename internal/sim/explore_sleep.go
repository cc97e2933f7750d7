package sim

// sleepers are choices that need not be tried: they were tried before another one that has nothing to do with them, and
// lead to the same states in either order (sleep sets, with states remembered: Godefroid, "Partial-Order Methods for the
// Verification of Concurrent Systems", 1996). No state is missed. A bit is the number of a choice in the state's list;
// those that have none do not sleep.
type sleepers uint64

const mostSleepers = 64

func (s sleepers) has(i int) bool { return i < mostSleepers && s>>i&1 != 0 }

// sleeper is a choice, and what it did where it was tried.
type sleeper struct {
	choice choice
	did    effect
}

// effect is what of a choice others see at once.
type effect struct{ asked, answered, reported bool }

// stillAsleep are those that go on sleeping behind a choice that was taken.
func stillAsleep(sleep []sleeper, taken sleeper) []sleeper {
	kept := sleep[:0:len(sleep)]
	for _, s := range sleep {
		if independent(s, taken) {
			kept = append(kept, s)
		}
	}
	return kept
}

// independent says whether two choices lead to the same state in either order, whatever else happens. A step changes its
// member, what the member posts, and what lands before it. So two steps of different members have nothing to do with each
// other, unless something lands on the ways between the two; or one begins an operation and the other answers one, for
// what was answered before what was asked is remembered.
func independent(a, b sleeper) bool {
	x, y := &a.choice, &b.choice
	if x.kind != step || y.kind != step || x.a == y.a || a.did.asked && b.did.answered || a.did.answered && b.did.asked {
		return false
	}
	if x.a == 0 && b.did.reported || y.a == 0 && a.did.reported {
		return false // see world.reports
	}
	if y.a != (x.a+1)%3 {
		x, y = y, x
	}
	// y's member is the one behind x's: see world.beside.
	none := landing{}
	return x.lands[0] == none && x.lands[2] == none && y.lands[1] == none && y.lands[3] == none
}
