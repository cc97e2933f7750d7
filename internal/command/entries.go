package command

// The kinds of subcommands, as Redis flags them.
type subKind struct{ flags, categories []string }

var (
	adminSub  = subKind{words("admin noscript loading stale"), words("@admin @slow @dangerous")}
	openSub   = subKind{words("noscript loading stale"), words("@slow")}
	helpSub   = subKind{words("loading stale"), words("@slow")}
	plainSub  = subKind{nil, words("@slow")}
	slowSub   = subKind{words("admin loading stale"), words("@admin @slow @dangerous")}
	scriptSub = subKind{words("noscript"), words("@slow @scripting")}
)

// container is a command that only has subcommands.
func container(name, group, since, summary string, subs ...*Command) *Command {
	for _, s := range subs {
		s.Group = group
	}
	return &Command{Name: name, Arity: -2, Place: Here, Run: runSub, Categories: words("@slow"),
		Group: group, Since: since, Summary: summary, Complexity: "Depends on the subcommand", Sub: subs}
}

// sub is a subcommand of place [Here]; its container gives it its group.
func sub(kind subKind, name string, arity int, since, summary string, run func(*Ctx)) *Command {
	return &Command{Name: name, Arity: arity, Place: Here, Run: run, Flags: kind.flags, Categories: kind.categories,
		Since: since, Summary: summary, Complexity: "O(1)"}
}

// tips adds the hints that COMMAND INFO shows.
func tips(cmd *Command, list string) *Command {
	cmd.Tips = words(list)
	return cmd
}
