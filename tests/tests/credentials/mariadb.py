"""mariadb, which reads no URL, with what MYSQL_URL says."""

import os
import sys
from urllib.parse import unquote, urlsplit

url = urlsplit(os.environ["MYSQL_URL"])
password = os.environ.get("OTHER_PASSWORD", unquote(url.password))
os.environ["MYSQL_PWD"] = password
where = [f"--host={url.hostname}", f"--port={url.port}", f"--user={unquote(url.username)}"]
os.execvp("mariadb", ["mariadb", *where, f"--database={unquote(url.path[1:])}", "--batch", "--skip-column-names", *sys.argv[1:]])
