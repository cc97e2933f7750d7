package command

// chars is what patterns and names are.
type chars interface{ string | []byte }

// match says whether name matches a pattern in the language of KEYS: * any characters, ? one, [a-c] and [^a-c] classes,
// \ before a character that is meant as it is. The time is bounded by the product of the lengths, whatever the pattern.
func match[T chars](pattern, name T) bool { return matchCase(pattern, name, exactly) }

// matchFold is match of a name in lower case; letters of the pattern are in either.
func matchFold[T chars](pattern, name T) bool { return matchCase(pattern, name, toLower) }

func exactly(c byte) byte { return c }

func matchCase[T chars](pattern, name T, fold func(byte) byte) bool {
	p, n := 0, 0
	star, resume := -1, 0 // the last * seen, and where in name to go on when what follows it does not match
	for n < len(name) {
		if p < len(pattern) && pattern[p] == '*' {
			star, resume = p, n
			p++
			continue
		}
		if p < len(pattern) {
			if next, ok := matchOne(pattern, p, name[n], fold); ok {
				p, n = next, n+1
				continue
			}
		}
		if star < 0 {
			return false
		}
		resume++
		p, n = star+1, resume
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchOne matches c with the element of the pattern at p and says where the next one begins.
func matchOne[T chars](pattern T, p int, c byte, fold func(byte) byte) (next int, ok bool) {
	switch pattern[p] {
	case '?':
		return p + 1, true
	case '[':
		return matchClass(pattern, p+1, c, fold)
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	return p + 1, fold(pattern[p]) == c
}

// matchClass reads a class from behind its bracket. One that is not closed ends with the pattern.
func matchClass[T chars](pattern T, p int, c byte, fold func(byte) byte) (next int, ok bool) {
	not := p < len(pattern) && pattern[p] == '^'
	if not {
		p++
	}
	match := false
	for ; p < len(pattern) && pattern[p] != ']'; p++ {
		if pattern[p] == '\\' && p+1 < len(pattern) {
			p++
			match = match || fold(pattern[p]) == c
		} else if p+2 < len(pattern) && pattern[p+1] == '-' {
			lo, hi := fold(pattern[p]), fold(pattern[p+2])
			match = match || min(lo, hi) <= c && c <= max(lo, hi)
			p += 2
		} else {
			match = match || fold(pattern[p]) == c
		}
	}
	return min(p+1, len(pattern)), match != not
}
