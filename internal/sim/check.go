package sim

import (
	"slices"
	"strconv"
	"strings"

	"whale/fabric/simfab"
)

// checker holds a run against the invariants of docs/protocol.md, at every step. It knows the format of a member's memory
// and what the network carried; of the engines it asks only who serves and how far a ring was drained.
type checker struct {
	r        *run
	f        format
	log      []record // every record that was durable at P, in order; record n has seq n+1
	tail     uint64
	values   map[int]uint64 // seq of each value
	lives    map[int]*life  // of values with deadlines
	found    uint64         // the end of the log that P found when it started
	settings []setting      // of P's wall clock
	s        uint64         // the highest S ever
	dw       uint64
	words    [2]uint64 // S and DW as they were last
	epoch    uint32    // of S
	ends     []uint64  // each member's durable end
	update   uint64    // of P's superblock
	entry    uint32    // the newest epoch in its table
	begun    uint64    // S when the epoch was
	passed   []uint64  // how far each member has forwarded, as P was told
	grown    []uint64  // in which run of each member's process that was said
	all      []int     // members
}

func newChecker(r *run) *checker {
	k := &checker{
		r: r, f: format{slots: ringSlots, segment: segmentSize, segments: uint64(r.c.Segments)},
		values: map[int]uint64{}, lives: map[int]*life{}, ends: make([]uint64, r.c.Members), grown: make([]uint64, r.c.Members), passed: make([]uint64, r.c.Members),
	}
	for i := range r.c.Members {
		k.all = append(k.all, i)
	}
	return k
}

// elsewhere says whether some backup holds every record that P does, and there are any.
func (k *checker) elsewhere() bool {
	return k != nil && len(k.log) > 0 && slices.Contains(k.ends[1:], uint64(len(k.log)))
}

// used is how much of the arena is in use.
func (k *checker) used() uint64 {
	if k == nil {
		return 0
	}
	return k.tail
}

func (k *checker) word(m *member, at uint64) uint64 { return le.Uint64(m.mem.Bytes()[k.f.word(at):]) }

// look is called after every event.
func (k *checker) look() {
	if k == nil {
		return
	}
	p := k.r.members[0]
	for _, m := range k.r.members {
		if m.eng == nil {
			continue
		}
		if _, end := split(k.word(m, wordDurable)); end != k.ends[m.id] {
			k.grew(m, end)
		}
	}
	if n := updates(p.mem.Bytes()); n != k.update {
		k.update = n
		k.entered(p)
	}
	if p.eng == nil {
		k.words = [2]uint64{}
		return
	}
	if w := k.word(p, wordS); w != k.words[0] {
		k.words[0] = w
		if w != 0 {
			k.stable(p, w)
		}
	}
	for _, m := range k.r.members[1:] {
		if w := k.word(p, wordForwarded+lineBytes*uint64(m.id)); w != k.passed[m.id] {
			k.forwarded(m, w)
		}
	}
	if w := k.word(p, wordDW); w != k.words[1] {
		k.words[1] = w
		k.everywhere(w)
	}
}

// grew: a member says that it holds everything up to end durably. It must, and it must be what P holds (PrefixEqual).
func (k *checker) grew(m *member, end uint64) {
	image := m.mem.Image()
	from := k.ends[m.id]
	k.ends[m.id] = end
	if _, kept := split(le.Uint64(image[k.f.word(wordDurable):])); k.grown[m.id] == m.runs && kept < min(from, end) {
		k.r.fail("DurableEnd", "%s says that everything up to record %d is durable here, but a loss of power would leave it saying %d: it may be one step behind, not more than %d", m.name, end, kept, from)
		return
	}
	k.grown[m.id] = m.runs
	if m.id == 0 {
		for uint64(len(k.log)) < end {
			seq := uint64(len(k.log)) + 1
			rec, ok := k.f.next(image, seq, k.tail)
			if !ok {
				k.r.fail("StableIsHeld", "P says that everything up to record %d is durable here, but record %d is not", end, seq)
				return
			}
			if now, _ := split(k.word(m, wordS)); rec.epoch > k.epoch && now != uint16(rec.epoch) {
				k.r.fail("Active", "P appends record %d in epoch %d, which is not active yet", seq, rec.epoch)
				return
			}
			k.log = append(k.log, rec)
			k.tail = rec.off + rec.padded()
			k.counted()
			k.born(m, image, &rec)
			if rec.value != 0 {
				k.values[rec.value] = seq
			}
		}
		return
	}
	if end > uint64(len(k.log)) {
		k.r.fail("PrefixEqual", "%s holds records up to %d, of which P has only %d", m.name, end, len(k.log))
		return
	}
	for seq := from + 1; seq <= end; seq++ {
		if !k.f.holds(image, &k.log[seq-1]) {
			k.r.fail("PrefixEqual", "%s says that everything up to record %d is durable here, but record %d is not, or is another one than P's", m.name, end, seq)
			return
		}
	}
}

// counted adds up the tombstones, and the records with deadlines, up to the last record.
func (k *checker) counted() {
	last := &k.log[len(k.log)-1]
	if len(k.log) > 1 {
		last.buried, last.timed = k.log[len(k.log)-2].buried, k.log[len(k.log)-2].timed
	}
	if last.deadline != 0 {
		last.timed++
	}
	if last.kind == tombstone {
		last.buried++
	}
}

// stable: P says that everything up to a seq is committed.
func (k *checker) stable(p *member, word uint64) {
	tag, s := split(word)
	first := k.s
	if tag != uint16(k.epoch) { // a new view: all that is in it is looked at anew
		k.epoch = storedEpoch(p.mem.Bytes())
		if tag != uint16(k.epoch) {
			k.r.fail("Epochs", "S is a word of epoch %d, but P stored epoch %d", tag, k.epoch)
			return
		}
		if s < k.s {
			k.r.fail("NoSilentLoss", "epoch %d begins with %d records, but %d were committed before", k.epoch, s, k.s)
			return
		}
		first = 0
		k.begun = s
		p.seal = p.key
		for _, m := range k.r.members {
			if m.eng != nil && storedEpoch(m.mem.Bytes()) == k.epoch {
				m.wiped, m.intact = false, nil // it is in the view, so it has everything
			}
		}
	} else if s < k.s {
		k.r.fail("Monotonic", "S went from %d back to %d in epoch %d", k.s, s, k.epoch)
		return
	}
	k.s = s
	if s > uint64(len(k.log)) {
		k.r.fail("StableIsHeld", "S is %d, but only %d records are durable at P", s, len(k.log))
		return
	}
	if s > 0 && !k.log[s-1].last {
		k.r.fail("Groups", "S is %d, in the middle of a group", s)
		return
	}
	k.copies(s)
	for _, m := range k.r.members {
		k.committed(m, first+1, s)
	}
}

// committed checks what must be true of records [from, to] at a member once they are.
func (k *checker) committed(m *member, from, to uint64) {
	c := k.r.c
	holder := k.holder(m.id)
	image := m.mem.Image()
	if holder && !m.wiped && m.intact == nil { // whether its process still runs or not
		for seq := from; seq <= to; seq++ {
			if !k.f.holds(image, &k.log[seq-1]) {
				k.r.fail("StableIsHeld", "S is %d, but record %d is not durable at %s", to, seq, m.name)
				return
			}
		}
	}
	if m.id == 0 || c.Protocol == "chain" || m.eng == nil {
		return
	}
	// Whoever may answer reads now, and whoever will in this epoch as soon as it has a lease again.
	if epoch, leased := m.eng.Serves(); epoch == 0 || !leased && epoch != k.epoch {
		return
	}
	view := m.mem.Bytes()
	drained := m.st.Drained()
	for seq := max(from, drained+1); seq <= to; seq++ {
		if !k.f.hasSlot(view, &k.log[seq-1], k.epoch) {
			k.r.fail("KnownBeforeStable", "S is %d, but the slot of record %d is not visible at %s, which drained %d", to, seq, m.name, drained)
			return
		}
	}
	if c.Policy == "metadata" {
		for seq := max(from, k.ends[m.id]+1); seq <= to; seq++ {
			if !k.f.hasSlot(image, &k.log[seq-1], k.epoch) && !k.f.holds(image, &k.log[seq-1]) {
				k.r.fail("KnownBeforeStable", "S is %d under the policy metadata, but the slot of record %d is not durable at %s", to, seq, m.name)
				return
			}
		}
	}
}

// everywhere: P says that every member holds everything up to a seq durably.
func (k *checker) everywhere(word uint64) {
	_, dw := split(word)
	if dw > k.s {
		k.r.fail("KeepOld", "DW is %d, above S, which is %d", dw, k.s)
		return
	}
	for _, id := range k.members() {
		m := k.r.members[id]
		if m.wiped || m.intact != nil {
			continue
		}
		image := m.mem.Image()
		for seq := min(k.dw, dw) + 1; seq <= dw; seq++ {
			if !k.f.holds(image, &k.log[seq-1]) {
				k.r.fail("KeepOld", "DW is %d, but record %d is not durable at %s", dw, seq, m.name)
				return
			}
		}
	}
	k.dw = dw
}

// entered: P may have entered a new view in its epoch table. All others are fenced by then: they have stored its epoch
// durably.
func (k *checker) entered(p *member) {
	epoch := newestEntry(p.mem.Bytes())
	if epoch <= k.entry {
		return
	}
	k.entry = epoch
	for _, id := range k.proposed(epoch) {
		m := k.r.members[id]
		if have := storedEpoch(m.mem.Image()); have < epoch && !m.wiped && m.intact == nil {
			k.r.fail("Fenced", "P forms the view of epoch %d, but %s has stored epoch %d durably", epoch, m.name, have)
		}
	}
}

// forwarded: a member has told P how far it has passed bytes on to its successor in the chain. They are durable there,
// but for those that P sends to everybody itself: small ones, and those of earlier views.
func (k *checker) forwarded(m *member, word uint64) {
	tag, seq := split(word)
	before, from := split(k.passed[m.id])
	k.passed[m.id] = word
	view := k.members()
	next := slices.Index(view, m.id) + 1
	if tag != uint16(k.epoch) || word == 0 || next == 0 || next == len(view) || next <= mirrors(k.r.c, len(view)) || k.r.c.Policy == "all" {
		return // nobody is behind it, or P serves that one itself
	}
	if before != tag {
		from = k.begun
	}
	to := k.r.members[view[next]]
	if to.wiped || to.intact != nil || seq > uint64(len(k.log)) || to.eng != nil && !to.eng.Status().Serving {
		return // it has started anew, and may have cut a part of a group
	}
	image := to.mem.Image()
	for n := max(from, k.begun) + 1; n <= seq; n++ {
		if rec := &k.log[n-1]; rec.size > direct && !k.f.holds(image, rec) {
			k.r.fail("Forwarded", "%s says that it has forwarded everything up to record %d, but record %d is not durable at %s", m.name, seq, n, to.name)
			return
		}
	}
}

// started follows the start of a member from its memory.
func (k *checker) started(m *member) {
	if k == nil {
		return
	}
	_, end := split(k.word(m, wordDurable))
	if m.id == 0 {
		k.found = end
	}
	if m.id == 0 && end < uint64(len(k.log)) {
		k.lost(m, end)
	}
	k.restarted(m)
	if end <= uint64(len(k.log)) {
		tail := uint64(0)
		if end > 0 {
			tail = k.log[end-1].off + k.log[end-1].padded()
		}
		if _, there := k.f.next(m.mem.Image(), end+1, tail); there {
			k.r.fail("Cut", "%s has cut its log behind record %d, but what was cut would be found again", m.name, end)
		}
	}
}

// lost: P comes back without records that were durable there. A loss of power may leave the durable end one step behind; if
// a bit of a record above it is damaged then, the log ends there, and nothing is wrong unless it was committed. (If it was,
// P must not serve: stable looks for that.)
func (k *checker) lost(p *member, end uint64) {
	if p.intact == nil {
		k.r.fail("NoSilentLoss", "P comes back with %d records, of the %d that were durable there", end, len(k.log))
		return
	}
	if end < k.s {
		return
	}
	for value, seq := range k.values {
		if seq > end {
			delete(k.values, value)
		}
	}
	k.log = k.log[:end]
	k.tail = 0
	if end > 0 {
		k.tail = k.log[end-1].off + k.log[end-1].padded()
	}
}

// restarted: what a member said before of its durable end counts anew.
func (k *checker) restarted(m *member) {
	if k == nil {
		return
	}
	k.ends[m.id] = 0
	k.dw = 0
	if m.id == 0 {
		k.ends[0] = min(uint64(len(k.log)), k.s)
	}
}

// answer checks the reply to an operation as it leaves.
func (k *checker) answer(o *op) {
	if k == nil || o.fate != done {
		return
	}
	k.look() // S moved in the very step that lets the reply go
	k.leasedAtP(o)
	if o.form == waits {
		k.waited(o)
		return
	}
	if w := o.behind; w != nil && w.fate == open && w.changes() {
		k.r.fail("OwnWrites", "%s is answered before %s, which its connection had sent before it", o, w)
	}
	for _, reply := range o.replies {
		n := valueNumber(strings.TrimPrefix(reply, "$"))
		if n == 0 || reply[0] != '$' {
			continue
		}
		seq := k.values[n]
		if seq == 0 || !k.isCommitted(seq) {
			k.r.fail("ReadStable", "%s at %s answers value %d, whose record %d is not committed: S is %d", o, o.on.name, n, seq, k.s)
		}
		k.ownWrites(o, n, seq)
		k.outlived(o, n)
	}
	for i := range o.subs { // what was written and acknowledged is committed
		s := &o.subs[i]
		if n := valueNumber(s.arg); n != 0 && s.kind == set {
			if seq := k.values[n]; seq == 0 || !k.isCommitted(seq) {
				k.r.fail("NoSilentLoss", "%s is acknowledged by %s, but its record %d is not committed: S is %d", o, o.on.name, seq, k.s)
			}
		}
	}
}

// isCommitted says whether a record is committed. In a chain it is the tail that decides, and P's S follows: there all
// members must hold the record.
func (k *checker) isCommitted(seq uint64) bool {
	if k.r.c.Protocol != "chain" || seq <= k.s {
		return seq <= k.s
	}
	for _, id := range k.members() {
		m := k.r.members[id]
		if !m.wiped && m.intact == nil && !k.f.holds(m.mem.Image(), &k.log[seq-1]) {
			return false
		}
	}
	return true
}

// ownWrites: a read that was sent behind an unanswered write of the same connection and key does not overtake it.
func (k *checker) ownWrites(o *op, n int, seq uint64) {
	w := o.behind
	if w == nil || w.fate != done || w.g != o.g || o.form != plain || w.form != plain {
		return
	}
	if s := &w.subs[0]; s.kind == set && s.key == o.subs[0].key && k.values[valueNumber(s.arg)] > seq {
		k.r.fail("OwnWrites", "%s answers value %d, which is older than what the connection had written just before: %s", o, n, w)
	}
}

// waited: WAIT has counted no member that does not hold the connection's last write durably.
func (k *checker) waited(o *op) {
	if k.r.wiped {
		return // a member that lost its memory, or some of it, is counted until P notices
	}
	n, _ := strconv.Atoi(o.replies[0][1:])
	held := 0
	for _, m := range k.r.members[1:] {
		image := m.mem.Image()
		if seq := o.last; seq == 0 || seq <= uint64(len(k.log)) && k.f.holds(image, &k.log[seq-1]) {
			held++
		}
	}
	if n > held {
		k.r.fail("Wait", "WAIT at %s counts %d members, but only %d hold record %d durably", o.on.name, n, held, o.last)
	}
}

// landed checks an operation as it takes effect: no write under a key that its owner had withdrawn when it stored its epoch
// (OneWriter).
func (k *checker) landed(m *member, e *simfab.Event) {
	if e.Key != 0 && m.eng != nil && m.seal != 0 && e.Key != m.seal && e.Key != m.key {
		k.r.fail("OneWriter", "%v changes the memory of %s, which has reported that it is fenced", e, m.name)
	}
}

// sealed follows the epoch that a member has stored: from then on the key that it gave away last is the only one.
func (k *checker) sealed(m *member) {
	b := m.mem.Bytes()
	if epoch := max(le.Uint32(b[48:]), le.Uint32(b[superblocks/2+48:])); epoch != m.epoch {
		m.epoch = epoch
		if m.id != 0 { // P stores it before it withdraws anything
			m.seal = m.key
		}
	}
}

// converged says what still differs between members when nothing has been going on for a while; "" if all is well.
func (k *checker) converged() string {
	end := uint64(len(k.log))
	for _, m := range k.r.members {
		image := m.mem.Image()
		for seq := uint64(1); seq <= end; seq++ {
			if !k.f.holds(image, &k.log[seq-1]) {
				return "record " + strconv.FormatUint(seq, 10) + " is not durable at " + m.name
			}
		}
		if m.id > 0 && string(m.mem.Bytes()[k.f.arena():k.f.arena()+k.tail]) != string(k.r.members[0].mem.Bytes()[k.f.arena():k.f.arena()+k.tail]) {
			return "the logs of P and " + m.name + " are not the same bytes"
		}
	}
	return ""
}
