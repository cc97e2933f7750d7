package sim

import (
	"math/rand/v2"
	"strconv"

	"whale/internal/command"
	"whale/internal/resp"
)

// group is two keys that operations use together. Groups come and go, so that each has a short history: the time to check
// one grows faster than its length.
type group struct {
	kind    groupKind
	keys    [2]string
	history []*op
	left    int // operations until another one takes its place
}

type groupKind uint8

const (
	lasting  groupKind = iota // values stay until somebody changes them
	timed                     // values have deadlines
	counters                  // numbers
)

const (
	activeGroups = 3
	groupLife    = 32 // operations
)

func (r *run) newGroup() *group {
	n := len(r.groups)
	g := &group{left: groupLife, keys: [2]string{"g" + strconv.Itoa(n) + "a", "g" + strconv.Itoa(n) + "b"}}
	switch n % 5 {
	case 3:
		g.kind = timed
	case 4:
		g.kind = counters
	}
	r.groups = append(r.groups, g)
	return g
}

// choose is the client's next operation; nil: it has nothing to do.
func (r *run) choose(c *client) *op {
	if r.final {
		return r.lastReads(c)
	}
	if r.begun >= r.c.Operations {
		return nil
	}
	rng := c.rng
	if w := c.watched; w != nil {
		if c.seen == nil {
			return r.one(c.watchedOn, sub{get, c.watchedKey, ""})
		}
		want := "" // what GET said
		if s := c.seen.replies[0]; s != "_" {
			want = s[1:]
		}
		return r.exec(c, c.watchedOn, sub{expect, c.watchedKey, want}, sub{set, c.watchedKey, r.value(rng, 'v')}, sub{get, c.watchedKey ^ 1, ""})
	}
	i := rng.IntN(activeGroups)
	g := r.active[i]
	if g == nil || g.left == 0 {
		g = r.newGroup()
		r.active[i] = g
	}
	key := rng.IntN(2)
	dice := rng.IntN(100)
	switch {
	case r.c.Lease != 0 && c.id%3 == 2:
		// Some only read: who writes, too, soon waits for a P that an expelled member cannot reach, and sees nothing stale there.
		return r.one(g, sub{get, key, ""})
	case dice < 2 && len(c.open) == 0:
		return r.make(nil, waits, arguments("wait", strconv.Itoa(1+rng.IntN(len(r.members))), "3"), sub{})
	case dice < 3 && rng.IntN(4) == 0:
		return r.make(nil, plain, arguments("flushall"), sub{kind: flush})
	}
	switch g.kind {
	case timed:
		v := r.value(rng, 't')
		if rng.IntN(3) == 0 {
			v = r.value(rng, 'v')
		}
		switch {
		case dice < 45:
			return r.one(g, sub{get, key, ""})
		case dice < 80:
			return r.setTimed(g, key, v, rng)
		case dice < 90:
			return r.exec(c, g, sub{get, key, ""}, sub{set, key, r.value(rng, 'v')})
		}
		return r.mget(g)
	case counters:
		switch {
		case dice < 40:
			return r.one(g, sub{get, key, ""})
		case dice < 85:
			return r.one(g, sub{incr, key, ""})
		case dice < 92:
			return r.exec(c, g, sub{incr, 0, ""}, sub{incr, 1, ""}, sub{get, key, ""})
		}
		return r.one(g, sub{del, key, ""})
	}
	switch {
	case dice < 40:
		return r.one(g, sub{get, key, ""})
	case dice < 62:
		return r.one(g, sub{set, key, r.value(rng, 'v')})
	case dice < 67:
		return r.one(g, sub{setnx, key, r.value(rng, 'v')})
	case dice < 72:
		return r.one(g, sub{swap, key, r.value(rng, 'v')})
	case dice < 78:
		return r.one(g, sub{del, key, ""})
	case dice < 84:
		a, b := r.value(rng, 'v'), r.value(rng, 'v')
		return r.make(g, several, arguments("mset", g.keys[0], a, g.keys[1], b), sub{set, 0, a}, sub{set, 1, b})
	case dice < 90:
		return r.mget(g)
	case dice < 96 || len(c.open) > 0:
		return r.exec(c, g, sub{get, key, ""}, sub{set, key, r.value(rng, 'v')}, sub{del, key ^ 1, ""}, sub{get, key, ""})
	}
	o := r.make(g, watches, arguments("watch", g.keys[key]), sub{})
	o.watch = c.conn.Watch(o.Args[1:])
	c.watchedOn, c.watchedKey = g, key
	return o
}

// began counts an operation on the way, and lets the faults strike that have waited for it.
func (r *run) began() {
	r.begun++
	for r.nextFault < len(r.schedule) && min(r.schedule[r.nextFault].After, r.c.Operations) <= r.begun {
		e := &r.schedule[r.nextFault]
		r.nextFault++
		r.troubles++
		r.push(event{at: r.now + int64(e.Delay) + 1, kind: evFault, about: &occasion{fault: e}})
	}
}

// value is a new value: most are small enough to go to every member directly, some are not.
func (r *run) value(rng *rand.Rand, letter byte) string {
	r.values++
	padding := 0
	switch rng.IntN(16) {
	case 0, 1, 2, 3:
		padding = rng.IntN(600)
	case 4, 5, 6:
		padding = 600 + rng.IntN(1000)
	case 7:
		if rng.IntN(8) == 0 {
			padding = rng.IntN(16 << 10)
		}
	}
	return makeValue(letter, r.values, padding)
}

func arguments(words ...string) [][]byte {
	size := 0
	for _, w := range words {
		size += len(w)
	}
	all := make([]byte, 0, size)
	args := make([][]byte, len(words))
	for i, w := range words {
		from := len(all)
		all = append(all, w...)
		args[i] = all[from:len(all):len(all)]
	}
	return args
}

// words is the command that does what the sub says.
func (s *sub) words(g *group) [][]byte {
	key := g.keys[s.key]
	switch s.kind {
	case get:
		return arguments("get", key)
	case set:
		return arguments("set", key, s.arg)
	case setnx:
		return arguments("setnx", key, s.arg)
	case swap:
		return arguments("set", key, s.arg, "get")
	case del:
		return arguments("del", key)
	case incr:
		return arguments("incr", key)
	}
	return arguments("flushall")
}

// make is an operation on a group, with what it is in the group's history.
func (r *run) make(g *group, form form, args [][]byte, subs ...sub) *op {
	for i := range subs {
		subs[i].arg = short(subs[i].arg)
	}
	o := &op{g: g, form: form, subs: subs}
	o.Args = args
	switch {
	case form >= waits:
	case g == nil:
		r.flushes = append(r.flushes, o)
	default:
		g.left = max(0, g.left-1)
		g.history = append(g.history, o)
	}
	return o
}

// one is a single command.
func (r *run) one(g *group, s sub) *op { return r.make(g, plain, s.words(g), s) }

// exec is a transaction.
func (r *run) exec(c *client, g *group, subs ...sub) *op {
	queue := func(args [][]byte) {
		cmd := command.Lookup(args[0])
		if !c.conn.Queue(cmd, args, func() *resp.Writer { return &resp.Writer{} }) {
			cmd.Run(&command.Ctx{Args: args, W: &resp.Writer{}, Client: c.conn}) // MULTI itself
		}
	}
	queue(arguments("multi"))
	for i := range subs {
		if subs[i].kind != expect {
			queue(subs[i].words(g))
		}
	}
	multi, refused := c.conn.Exec()
	if refused != "" {
		r.fail("Reply", "client %d: EXEC is refused: %s", c.id, refused)
	}
	o := r.make(g, array, arguments("exec"), subs...)
	o.Multi = multi
	return o
}

func (r *run) setTimed(g *group, key int, value string, rng *rand.Rand) *op {
	args := arguments("set", g.keys[key], value)
	if value[0] == 't' {
		px := 1 + rng.IntN(1<<rng.IntN(9))
		args = arguments("set", g.keys[key], value, "px", strconv.Itoa(px))
		r.check.asked(valueNumber(value), px)
	}
	return r.make(g, plain, args, sub{set, key, value})
}

func (r *run) mget(g *group) *op {
	return r.make(g, array, arguments("mget", g.keys[0], g.keys[1]), sub{get, 0, ""}, sub{get, 1, ""})
}

// finish begins the end of a run: every key is read once more, at whatever member.
func (r *run) finish() {
	r.final = true
	for _, g := range r.groups {
		r.todo = append(r.todo, lastRead{g, 0}, lastRead{g, 1})
	}
	for _, c := range r.clients {
		if len(c.open) == 0 {
			c.m = nil
			c.watched, c.seen = nil, nil
			r.later(c, 1)
		}
	}
}

type lastRead struct {
	g   *group
	key int
}

func (r *run) lastReads(c *client) *op {
	if len(r.todo) == 0 {
		return nil
	}
	last := r.todo[0]
	r.todo = r.todo[1:]
	return r.one(last.g, sub{get, last.key, ""})
}
