package command

var stringTTLCommands = []*Command{
	{Name: "setex", Arity: 4, Place: Write, Run: func(c *Ctx) { setex(c, "ex") },
		Flags: words("write denyoom"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("OW update"), Categories: words("@write @string @slow"),
		Group: "string", Since: "2.0.0", Summary: "Sets the value of a key that expires in so many seconds", Complexity: "O(1)"},
	{Name: "psetex", Arity: 4, Place: Write, Run: func(c *Ctx) { setex(c, "px") },
		Flags: words("write denyoom"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("OW update"), Categories: words("@write @string @slow"),
		Group: "string", Since: "2.6.0", Summary: "Sets the value of a key that expires in so many milliseconds", Complexity: "O(1)"},
	{Name: "getex", Arity: -2, Place: Write, Run: getex,
		Flags: words("write fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW access update"),
		KeyNotes: "RW and UPDATE because it changes the TTL", Categories: words("@write @string @fast"),
		Group: "string", Since: "6.2.0", Summary: "Returns the value of a key and changes when it expires", Complexity: "O(1)"},
	{Name: "getdel", Arity: 2, Place: Write, Run: getdel,
		Flags: words("write fast"), FirstKey: 1, LastKey: 1, Step: 1, KeyFlags: words("RW access delete"), Categories: words("@write @string @fast"),
		Group: "string", Since: "6.2.0", Summary: "Returns the value of a key and deletes the key", Complexity: "O(1)"},
}

func setex(c *Ctx, option string) {
	if at, ok := (expiry{option: option, arg: c.Args[2]}).deadline(c); ok {
		c.Tx.SetUntil(c.Args[1], c.Args[3], at)
		c.W.OK()
	}
}

func getex(c *Ctx) {
	var e expiry
	for i := 2; i < len(c.Args); i++ {
		var ok bool
		if i, ok = e.parse(c, i, "persist"); !ok {
			c.W.Error(errSyntax)
			return
		}
	}
	key := c.Args[1]
	value, found := c.Tx.Get(key)
	if !found {
		c.W.Null()
		return
	}
	if e.timed() {
		at, ok := e.deadline(c)
		if !ok {
			return
		}
		c.setUntil(key, value, at)
	} else if at, _ := c.Tx.Deadline(key); e.option != "" && at != 0 {
		c.Tx.Set(key, value)
	}
	c.W.Bulk(value)
}

func getdel(c *Ctx) {
	value, found := c.Tx.Get(c.Args[1])
	if found {
		c.Tx.Del(c.Args[1])
	}
	c.bulkOrNull(value, found)
}
