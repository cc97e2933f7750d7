package command

import (
	"math"

	"whale/internal/resp"
)

var expireCommands = []*Command{
	expireCommand("expire", "1.0.0", "Lets a key expire in so many seconds", func(c *Ctx) { expire(c, c.Server.Now(), 1000) }),
	expireCommand("pexpire", "2.6.0", "Lets a key expire in so many milliseconds", func(c *Ctx) { expire(c, c.Server.Now(), 1) }),
	expireCommand("expireat", "1.2.0", "Lets a key expire at a Unix time in seconds", func(c *Ctx) { expire(c, 0, 1000) }),
	expireCommand("pexpireat", "2.6.0", "Lets a key expire at a Unix time in milliseconds", func(c *Ctx) { expire(c, 0, 1) }),
	ttlCommand("ttl", "1.0.0", "Returns in how many seconds a key expires", func(c *Ctx) { remaining(c, c.Server.Now(), 1000) }),
	ttlCommand("pttl", "2.6.0", "Returns in how many milliseconds a key expires", func(c *Ctx) { remaining(c, c.Server.Now(), 1) }),
	ttlCommand("expiretime", "7.0.0", "Returns the Unix time in seconds at which a key expires", func(c *Ctx) { remaining(c, 0, 1000) }),
	ttlCommand("pexpiretime", "7.0.0", "Returns the Unix time in milliseconds at which a key expires", func(c *Ctx) { remaining(c, 0, 1) }),
	{Name: "persist", Arity: 2, Place: Write, Run: persist,
		Flags: words("write fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW update"), Categories: words("@keyspace @write @fast"),
		Group: "generic", Since: "2.2.0", Summary: "Keeps a key from expiring", Complexity: "O(N), N the length of the value: it is written again"},
}

func expireCommand(name, since, summary string, run func(*Ctx)) *Command {
	return &Command{Name: name, Arity: -3, Place: Write, Run: run,
		Flags: words("write fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW update"), Categories: words("@keyspace @write @fast"),
		Group: "generic", Since: since, Summary: summary, Complexity: "O(N), N the length of the value: it is written again"}
}

func ttlCommand(name, since, summary string, run func(*Ctx)) *Command {
	cmd := &Command{Name: name, Arity: 2, Place: Read, Run: run,
		Flags: words("readonly fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RO access"), Categories: words("@keyspace @read @fast"),
		Group: "generic", Since: since, Summary: summary, Complexity: "O(1)"}
	if name == "ttl" || name == "pttl" {
		cmd.Tips = words("nondeterministic_output")
	}
	return cmd
}

// expireTime answers that a time is none for this command.
func (c *Ctx) expireTime() {
	c.W.Error("ERR invalid expire time in '" + string(asciiLower(c.Args[0])) + "' command")
}

// expire is EXPIRE and its kin: the deadline is base plus argument 2 in units of so many milliseconds.
func expire(c *Ctx, base, unit int64) {
	var nx, xx, gt, lt bool
	for i := 3; i < len(c.Args); i++ {
		switch {
		case c.is(i, "nx"):
			nx = true
		case c.is(i, "xx"):
			xx = true
		case c.is(i, "gt"):
			gt = true
		case c.is(i, "lt"):
			lt = true
		default:
			c.W.Error("ERR Unsupported option " + cString(c.Args[i], len(c.Args[i])))
			return
		}
	}
	switch {
	case nx && (xx || gt || lt):
		c.W.Error("ERR NX and XX, GT or LT options at the same time are not compatible")
		return
	case gt && lt:
		c.W.Error("ERR GT and LT options at the same time are not compatible")
		return
	}
	at, ok := c.integer(2)
	if !ok {
		return
	}
	if at > math.MaxInt64/unit || at < math.MinInt64/unit || at*unit > math.MaxInt64-base {
		c.expireTime()
		return
	}
	at = at*unit + base
	key := c.Args[1]
	value, found := c.Tx.Get(key)
	if !found {
		c.bit(false)
		return
	}
	now, _ := c.Tx.Deadline(key)
	// A key without a deadline counts as one whose deadline is never.
	if nx && now != 0 || xx && now == 0 || gt && (now == 0 || at <= now) || lt && now != 0 && at >= now {
		c.bit(false)
		return
	}
	c.setUntil(key, value, at)
	c.bit(true)
}

// setUntil gives a key a deadline; one that has passed removes it at once.
func (c *Ctx) setUntil(key, value []byte, at int64) {
	if at <= c.Server.Now() {
		c.Tx.Del(key)
	} else {
		c.Tx.SetUntil(key, value, at)
	}
}

// remaining is TTL and its kin: the deadline less base, in units of so many milliseconds, rounded.
func remaining(c *Ctx, base, unit int64) {
	at, found := c.Tx.Deadline(c.Args[1])
	switch {
	case !found:
		c.W.Int(-2)
	case at == 0:
		c.W.Int(-1)
	default:
		c.W.Int((max(at-base, 0) + unit/2) / unit)
	}
}

func persist(c *Ctx) {
	key := c.Args[1]
	value, found := c.Tx.Get(key)
	if at, _ := c.Tx.Deadline(key); !found || at == 0 {
		c.bit(false)
		return
	}
	c.Tx.Set(key, value)
	c.bit(true)
}

// expiry is what the options of SET and GETEX say about deadlines.
type expiry struct {
	option string // ex, px, exat, pxat, keepttl, persist; empty: none
	arg    []byte // of the first four
}

// timed says whether the option names a time.
func (e expiry) timed() bool { return e.arg != nil }

var timeOptions = [...]string{"ex", "px", "exat", "pxat"}

// parse takes the option at argument i, and the one behind it where that belongs to it. False: it is not one, or not one
// beside those before.
func (e *expiry) parse(c *Ctx, i int, alone string) (next int, ok bool) {
	option := alone
	if !c.is(i, alone) {
		option = ""
		for _, o := range timeOptions {
			if c.is(i, o) && i+1 < len(c.Args) {
				option, e.arg = o, c.Args[i+1]
				i++
			}
		}
	}
	if option == "" || e.option != "" && e.option != option {
		return 0, false
	}
	e.option = option
	return i, true
}

// deadline is the time that the options name; false: it is none, and the reply says so.
func (e expiry) deadline(c *Ctx) (at int64, ok bool) {
	at, ok = resp.ParseInt(e.arg)
	if !ok {
		c.W.Error(errNotInteger)
		return 0, false
	}
	unit, base := int64(1), int64(0)
	if e.option[0] == 'e' {
		unit = 1000
	}
	if len(e.option) == 2 {
		base = c.Server.Now()
	}
	if at <= 0 || at > math.MaxInt64/unit || at*unit > math.MaxInt64-base {
		c.expireTime()
		return 0, false
	}
	return at*unit + base, true
}
