"""Suffixes below which anybody may have a name: a wildcard for one of them allows everybody.

No copy of the Public Suffix List: it has ten thousand entries and needs to be kept up to date. These are the two-label
suffixes of registries and of hosters that are met most; `*.` before a single label is refused whatever it is.
"""

_SHARED = """
co.uk org.uk ac.uk gov.uk me.uk ltd.uk plc.uk com.au net.au org.au edu.au co.nz org.nz net.nz co.jp ne.jp or.jp
ac.jp com.br net.br org.br com.cn net.cn org.cn com.hk com.tw com.sg com.my co.in net.in org.in co.kr or.kr co.za
org.za com.mx com.ar com.co com.tr com.ua com.pl co.il org.il com.vn co.id co.th com.ph com.sa com.eg github.io
githubusercontent.io gitlab.io gitbook.io readthedocs.io netlify.app vercel.app now.sh herokuapp.com pages.dev
workers.dev r2.dev trycloudflare.com cloudfront.net amazonaws.com s3.amazonaws.com amplifyapp.com
elasticbeanstalk.com azurewebsites.net azurestaticapps.net azureedge.net azurefd.net cloudapp.net windows.net
blob.core.windows.net core.windows.net cloudapp.azure.com web.app firebaseapp.com appspot.com run.app googleapis.com
cloudfunctions.net a.run.app fly.dev onrender.com railway.app deno.dev surge.sh glitch.me repl.co replit.dev
replit.app ngrok.io ngrok.app ngrok-free.app ngrok.dev loca.lt localtunnel.me serveo.net lhr.life duckdns.org
dyndns.org no-ip.org ddns.net hopto.org nip.io sslip.io xip.io traefik.me fastly.net fastlylb.net akamaized.net
edgekey.net edgesuite.net b-cdn.net digitaloceanspaces.com ondigitalocean.app hf.space streamlit.app wordpress.com
blogspot.com tumblr.com weebly.com wixsite.com myshopify.com
"""
SHARED_SUFFIXES = frozenset(_SHARED.split())

LOCAL_SUFFIXES = ("local", "localhost", "internal", "intranet", "lan", "home", "corp", "svc", "arpa", "onion", "test")
"""Top-level labels that no registry gives out: names of a cluster, of a cloud's metadata, of a local network."""
