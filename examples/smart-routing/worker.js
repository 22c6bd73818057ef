// Cloudflare Workers example: Intelligent routing and caching

addEventListener('fetch', event => {
    event.respondWith(handleRequest(event.request, event))
})

async function handleRequest(request, event) {
    const url = new URL(request.url);
    const cache = caches.default;
    
    // Check cache first
    let response = await cache.match(request);
    
    if (response) {
        // Cache hit - add header and return
        response = new Response(response.body, response);
        response.headers.set('X-Cache', 'HIT');
        return response;
    }
    
    // Cache miss - intelligent routing
    const origin = await selectOptimalOrigin(request);
    
    // Modify request for origin
    const originRequest = new Request(request);
    originRequest.headers.set('X-Edge-Location', 
        request.cf?.colo || 'unknown');
    
    // Fetch from selected origin
    response = await fetch(originRequest, {
        backend: origin,
        timeout: 10000
    });
    
    // Cache successful responses
    if (response.ok) {
        response = new Response(response.body, response);
        response.headers.set('X-Cache', 'MISS');
        response.headers.set('X-Origin', origin);
        
        // Determine cache TTL based on content type
        const contentType = response.headers.get('Content-Type') || '';
        let cacheTTL = 3600; // Default 1 hour
        
        if (contentType.includes('image/')) {
            cacheTTL = 86400; // Images: 24 hours
        } else if (contentType.includes('application/json')) {
            cacheTTL = 300; // API responses: 5 minutes
        } else if (contentType.includes('text/html')) {
            cacheTTL = 60; // HTML: 1 minute
        }
        
        response.headers.set('Cache-Control', `public, max-age=${cacheTTL}`);
        
        // Store in cache
        event.waitUntil(cache.put(request, response.clone()));
    }
    
    return response;
}

async function selectOptimalOrigin(request) {
    // Get client location from Cloudflare
    const country = request.cf?.country || 'US';
    const continent = request.cf?.continent || 'NA';
    
    // Route to nearest healthy origin
    const origins = {
        'NA': 'https://us-origin.example.com',
        'EU': 'https://eu-origin.example.com',
        'AS': 'https://asia-origin.example.com',
        'OC': 'https://aus-origin.example.com',
    };
    
    // Check origin health (simplified)
    const preferredOrigin = origins[continent] || origins['NA'];
    
    // Could implement sophisticated health checking here
    const isHealthy = await checkOriginHealth(preferredOrigin);
    
    if (isHealthy) {
        return preferredOrigin;
    } else {
        // Failover to primary origin
        return origins['NA'];
    }
}

async function checkOriginHealth(origin) {
    try {
        const healthCheck = await fetch(`${origin}/health`, {
            timeout: 2000
        });
        return healthCheck.ok;
    } catch (error) {
        return false;
    }
}
