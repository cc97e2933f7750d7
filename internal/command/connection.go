package command

import (
	"math"

	"whale/internal/resp"
)

var connectionCommands = []*Command{
	{Name: "ping", Arity: -1, Place: Here, Run: ping,
		Flags: words("fast"), Categories: words("@fast @connection"),
		Tips:  words("request_policy:all_shards response_policy:all_succeeded"),
		Group: "connection", Since: "1.0.0", Summary: "Answers PONG, or with its argument", Complexity: "O(1)"},
	{Name: "echo", Arity: 2, Place: Here, Run: func(c *Ctx) { c.W.Bulk(c.Args[1]) },
		Flags: words("loading stale fast"), Categories: words("@fast @connection"),
		Group: "connection", Since: "1.0.0", Summary: "Answers with its argument", Complexity: "O(1)"},
	{Name: "hello", Arity: -1, Place: Here, Run: hello,
		Flags: words("noscript loading stale fast no_auth allow_busy"), Categories: words("@fast @connection"),
		Group: "connection", Since: "6.0.0", Summary: "Chooses the protocol version and introduces both sides", Complexity: "O(1)"},
	{Name: "auth", Arity: -2, Place: Here, Run: auth,
		Flags: words("noscript loading stale fast no_auth allow_busy"), Categories: words("@fast @connection"),
		Group: "connection", Since: "1.0.0", Summary: "Proves that the client knows the password; there is only the user default", Complexity: "O(1)"},
	{Name: "quit", Arity: -1, Place: Here, Run: quit,
		Flags: words("noscript loading stale fast no_auth allow_busy"), Categories: words("@fast @connection"),
		Group: "connection", Since: "1.0.0", Summary: "Closes the connection when all replies have left", Complexity: "O(1)"},
	{Name: "reset", Arity: 1, Place: Here, Run: reset,
		Flags: words("noscript loading stale fast no_auth allow_busy"), Categories: words("@fast @connection"),
		Group: "connection", Since: "6.2.0", Summary: "Brings the connection back to how it began", Complexity: "O(1)"},
	{Name: "select", Arity: 2, Place: Here, Run: selectDB,
		Flags: words("loading stale fast"), Categories: words("@fast @connection"),
		Group: "connection", Since: "1.0.0", Summary: "Selects the database; there is only number 0", Complexity: "O(1)"},
}

func ping(c *Ctx) {
	switch len(c.Args) {
	case 1:
		c.W.Status("PONG")
	case 2:
		c.W.Bulk(c.Args[1])
	default:
		c.W.Error(wrongArity("ping"))
	}
}

// hello takes its options one after the other, so that a name stays when a later option is wrong, as in Redis; only the
// protocol changes last.
func hello(c *Ctx) {
	proto := int64(0)
	if len(c.Args) > 1 {
		var ok bool
		if proto, ok = resp.ParseInt(c.Args[1]); !ok {
			c.W.Error("ERR Protocol version is not an integer or out of range")
			return
		}
		if proto != 2 && proto != 3 {
			c.W.Error("NOPROTO unsupported protocol version")
			return
		}
	}
	for i := 2; i < len(c.Args); i++ {
		more := len(c.Args) - 1 - i
		switch {
		case c.is(i, "auth") && more >= 2:
			if !authenticate(c, c.Args[i+1], c.Args[i+2]) {
				c.W.Error(errWrongPass)
				return
			}
			i += 2
		case c.is(i, "setname") && more >= 1:
			if !validName(c.Args[i+1]) {
				c.W.Error(errClientName)
				return
			}
			c.Client.setName(c.Args[i+1])
			i++
		default:
			c.W.Error("ERR Syntax error in HELLO option '" + cString(c.Args[i], len(c.Args[i])) + "'")
			return
		}
	}
	if c.Server.Params().Locked() && !c.Client.Authed {
		c.W.Error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return
	}
	if proto != 0 {
		c.Client.setProto(int(proto))
		c.W.Proto = int(proto)
	}
	welcome(c)
}

func welcome(c *Ctx) {
	w := c.W
	w.Map(7)
	w.BulkString("server")
	w.BulkString("redis")
	w.BulkString("version")
	w.BulkString(RedisVersion)
	w.BulkString("proto")
	w.Int(int64(max(2, c.Client.Proto)))
	w.BulkString("id")
	w.Int(int64(c.Client.ID))
	w.BulkString("mode")
	w.BulkString("standalone")
	w.BulkString("role")
	w.BulkString(c.Server.RoleName())
	w.BulkString("modules")
	w.Array(0)
}

// Without requirepass, Redis takes any password from the user default and knows nobody else. So does this.
const (
	defaultUser  = "default"
	errWrongPass = "WRONGPASS invalid username-password pair or user is disabled."
)

func authenticate(c *Ctx, user, password []byte) bool {
	p := c.Server.Params()
	if string(user) != defaultUser || p.Locked() && !p.opens(password) {
		return false
	}
	c.Client.Authed = true
	return true
}

func auth(c *Ctx) {
	user, password := []byte(defaultUser), c.Args[len(c.Args)-1]
	if len(c.Args) == 3 {
		user = c.Args[1]
	}
	switch {
	case len(c.Args) > 3:
		c.W.Error(errSyntax)
	case len(c.Args) == 2 && !c.Server.Params().Locked():
		c.W.Error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	case !authenticate(c, user, password):
		c.W.Error(errWrongPass)
	default:
		c.W.OK()
	}
}

func quit(c *Ctx) {
	c.Client.Quit = true
	c.W.OK()
}

func selectDB(c *Ctx) {
	db, ok := c.integer(1)
	switch {
	case !ok:
	case db < math.MinInt32 || db > math.MaxInt32:
		c.W.Error("ERR value is out of range, value must between -2147483648 and 2147483647")
	case db != 0:
		c.W.Error("ERR DB index is out of range")
	default:
		c.W.OK()
	}
}
