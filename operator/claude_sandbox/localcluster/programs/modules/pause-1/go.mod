module claudesandbox.dev/localcluster/pause

go 1.24
