export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
git init -q -b main r && cd r && git config user.name n && git config user.email n@example.org
for i in $(seq 1 50); do echo "line $i" >> f; echo $i > g$i; done
git add . && git commit -qm first && echo more >> f && git mv g1 h1 && git commit -qam second
git log --stat --format='%H %s' && git status --short && git diff HEAD~1 | sha256sum && git fsck 2>&1
git gc -q 2>&1 && git log --oneline
